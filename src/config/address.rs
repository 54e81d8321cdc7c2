//! Which hosts the relay never sends to: what answers there is the machine or the cloud it runs on, not a partner.
//!
//! Loopback and private ranges are allowed: ground segments run there. The check is on addresses, after the name was resolved,
//! so that no name leads around it; names are checked too, because behind a proxy it is the proxy that resolves them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::Host;

/// Metadata services of clouds that are not link-local: Alibaba, Azure's wire server, Oracle (classic).
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];

/// The same for IPv6: AWS, Google, Scaleway.
const METADATA_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
];

/// Names that only metadata services have.
const METADATA_NAMES: [&str; 5] = [
    "metadata.google.internal",
    "metadata.goog",
    "metadata.azure.internal",
    "instance-data.ec2.internal",
    "metadata.tencentyun.com",
];

/// Why nothing is ever sent to this address; none if it may be.
#[must_use]
pub fn forbidden(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => forbidden_v4(ip),
        IpAddr::V6(ip) => match embedded(ip) {
            Some(inner) => forbidden_v4(inner),
            None => forbidden_v6(ip),
        },
    }
}

/// The same for a URL's host: addresses by [`forbidden`], names by what is known of them without resolving.
#[must_use]
pub fn forbidden_host(host: &Host<&str>) -> Option<&'static str> {
    match host {
        Host::Ipv4(ip) => forbidden(IpAddr::V4(*ip)),
        Host::Ipv6(ip) => forbidden(IpAddr::V6(*ip)),
        Host::Domain(name) => {
            let name = name.trim_end_matches('.');
            METADATA_NAMES
                .iter()
                .any(|known| name.eq_ignore_ascii_case(known))
                .then_some("it is a cloud's metadata service")
        }
    }
}

fn forbidden_v4(ip: Ipv4Addr) -> Option<&'static str> {
    if METADATA_V4.contains(&ip) {
        Some("it is a cloud's metadata service")
    } else if ip.is_link_local() {
        Some("it is link-local, where clouds keep their metadata service")
    } else if ip.octets().starts_with(&[0]) {
        // All of 0.0.0.0/8 is "this network" (RFC 6890); Linux takes 0.0.0.0 for the machine itself.
        Some("it is unspecified")
    } else if ip.is_multicast() {
        Some("it is multicast")
    } else if ip.is_broadcast() {
        Some("it is broadcast")
    } else {
        None
    }
}

fn forbidden_v6(ip: Ipv6Addr) -> Option<&'static str> {
    if METADATA_V6.contains(&ip) {
        Some("it is a cloud's metadata service")
    } else if ip.is_unicast_link_local() {
        Some("it is link-local")
    } else if ip.is_unspecified() {
        Some("it is unspecified")
    } else if ip.is_multicast() {
        Some("it is multicast")
    } else {
        None
    }
}

/// The IPv4 address that packets to this IPv6 address end at: mapped (`::ffff:a.b.c.d`), compatible (`::a.b.c.d`, but not `::`
/// and `::1`), NAT64 (`64:ff9b::/96`, RFC 6052) and 6to4 (`2002::/16`, RFC 3056).
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match ip.segments() {
        _ if ip.is_unspecified() || ip.is_loopback() => None,
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            Some(v4(high, low))
        }
        _ => None,
    }
}

/// What can't be told of a broker's URL: a user or password with `@`, `/`, `?` or `#` in it ends before it was meant to, and a
/// part of it would be read as the host or the virtual host, which messages show.
#[must_use]
pub fn ambiguous_broker_url(text: &str) -> Option<&'static str> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let (_, after) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if after.contains('@') {
        return Some("there is an `@` after the first `/`, `?` or `#`: where does the host begin?");
    }
    let escape = |text: &str| text.get(..2).is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if !rest.split('%').skip(1).all(escape) {
        return Some("a `%` in a URL begins an escape of two hexadecimal digits, and this one doesn't");
    }
    let outside = text.chars().any(|char| char.is_whitespace() || char.is_control() || char == '\\');
    outside.then_some("white space, control characters and backslashes can't be a part of a URL")
}

/// The same of a URL for HTTP, whose path may hold an `@`.
#[must_use]
pub fn ambiguous_web_url(text: &str) -> Option<&'static str> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let (authority, after) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    (authority.contains('@') && after.contains('@')).then_some(
        "there is an `@` before the first `/`, `?` or `#`, and another one after it: where does the host begin?",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(ip: &str) -> bool {
        forbidden(ip.parse().unwrap()).is_some()
    }

    #[test]
    fn the_machine_s_and_the_cloud_s_own_addresses_are_forbidden_however_written() {
        for ip in [
            "169.254.169.254",
            "169.254.0.1",
            "100.100.100.200",
            "168.63.129.16",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "239.255.255.255",
            "255.255.255.255",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "::",
            "ff02::1",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::169.254.169.254",
            "2002:a9fe:a9fe::1",
            "::ffff:0.0.0.0",
        ] {
            assert!(refused(ip), "{ip}");
        }
    }

    #[test]
    fn loopback_private_and_public_addresses_are_allowed() {
        for ip in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "8.8.8.8",
            "169.253.255.255",
            "::1",
            "fd00::1",
            "2001:db8::1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
        ] {
            assert!(!refused(ip), "{ip}");
        }
    }

    #[test]
    fn hosts_of_urls_are_read_as_browsers_read_them() {
        let refused = |url: &str| forbidden_host(&url::Url::parse(url).unwrap().host().unwrap()).is_some();
        for url in [
            "http://169.254.169.254/",
            "http://2852039166/",
            "http://0xa9.0xfe.0xa9.0xfe/",
            "http://[::ffff:a9fe:a9fe]/",
            "http://0/",
            "http://metadata.google.internal/",
            "http://METADATA.google.internal./",
        ] {
            assert!(refused(url), "{url}");
        }
        for url in ["http://127.1/", "https://pager.example.org/", "http://[::1]:8080/", "http://localhost/"] {
            assert!(!refused(url), "{url}");
        }
    }
}
