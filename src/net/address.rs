//! Hosts that the relay never connects to, such as the metadata service of the cloud it runs in; and URLs that are ambiguous.
//!
//! Loopback and private ranges are allowed: ground segments run there. Addresses are checked after the name was resolved, so
//! that no name bypasses the check. Names are checked too, because a proxy resolves them itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Metadata services of clouds that are not link-local. (AWS, Azure, Google, OCI, `OpenStack` and more use 169.254.0.0/16, RFC 3927.)
const METADATA_V4: [Ipv4Addr; 3] = [
    // Alibaba Cloud, "Access instance metadata".
    Ipv4Addr::new(100, 100, 100, 200),
    // Azure, "What is IP address 168.63.129.16?": the wire server.
    Ipv4Addr::new(168, 63, 129, 16),
    // Oracle Cloud Infrastructure Classic, "Retrieving instance metadata".
    Ipv4Addr::new(192, 0, 0, 192),
];

/// Metadata services of clouds with an IPv6 address.
const METADATA_V6: [Network; 6] = [
    // AWS, "Configure route tables": reserved for services of AWS. The metadata service (::254), the EKS Pod Identity Agent (::23), the
    // resolver (::253), the time (::123).
    Network::v6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0), 32),
    // Google Compute Engine, "About VM metadata": for instances with IPv6 alone.
    Network::v6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254), 128),
    // Scaleway, "Instance metadata"; scaleway-cli uses it.
    Network::v6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42), 128),
    // Oracle Cloud Infrastructure; cloud-init's DataSourceOracle and Oracle's SDK use it.
    Network::v6(Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe), 128),
    // Akamai (Linode), "Metadata service API"; cloud-init's DataSourceAkamai uses it.
    Network::v6(Ipv6Addr::new(0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1), 128),
    // Alibaba Cloud, "Access instance metadata": for instances with IPv6.
    Network::v6(Ipv6Addr::new(0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200), 128),
];

/// Host names of metadata services.
const METADATA_NAMES: [&str; 5] = [
    "metadata.google.internal",
    "metadata.goog",
    "metadata.azure.internal",
    "instance-data.ec2.internal",
    "metadata.tencentyun.com",
];

/// A block of addresses: `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    first: u128,
    bits: u8,
    is_v4: bool,
}

impl Network {
    const fn v6(ip: Ipv6Addr, bits: u8) -> Self {
        Self { first: ip.to_bits(), bits, is_v4: false }
    }

    /// Whether the address is in it, also as an IPv4 address embedded in an IPv6 address.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => self.has(u128::from(ip.to_bits()), true),
            IpAddr::V6(ip) => {
                self.has(ip.to_bits(), false) || embedded(ip).any(|inner| self.has(inner.to_bits().into(), true))
            }
        }
    }

    fn has(&self, ip: u128, is_v4: bool) -> bool {
        let width = if is_v4 { 32 } else { 128 };
        is_v4 == self.is_v4 && (ip ^ self.first).checked_shr(width - u32::from(self.bits)).unwrap_or(0) == 0
    }
}

impl std::str::FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (ip, bits) = text.split_once('/').map_or((text, None), |(ip, bits)| (ip, Some(bits)));
        let ip: IpAddr =
            ip.parse().map_err(|_| "it is not an address, nor one with `/` and a number of bits after it")?;
        let (first, width, is_v4) = match ip {
            IpAddr::V4(ip) => (u128::from(ip.to_bits()), 32, true),
            IpAddr::V6(ip) => (ip.to_bits(), 128, false),
        };
        let bits = match bits {
            None => width,
            Some(bits) if bits.len() <= 3 && bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse().ok().filter(|bits| *bits <= width).ok_or("an address has fewer bits")?
            }
            Some(_) => return Err("what follows the `/` is not a number of bits"),
        };
        let network = Self { first, bits, is_v4 };
        let below = u32::from(width - bits);
        let rest = first & 1_u128.checked_shl(below).map_or(u128::MAX, |above| above - 1);
        if rest != 0 { Err("it has bits beyond its prefix") } else { Ok(network) }
    }
}

/// Why the relay never connects to this address. None if it may.
#[must_use]
pub fn forbidden(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => forbidden_v4(ip),
        IpAddr::V6(ip) => forbidden_v6(ip).or_else(|| {
            // An address of another of these forms has zeros there.
            embedded(ip).filter(|inner| !inner.octets().starts_with(&[0]) || is_direct(ip)).find_map(forbidden_v4)
        }),
    }
}

/// The same for the host of a URL. Names are compared with the known ones, not resolved.
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

/// Why a webhook's `deny:` forbids this address. None if it doesn't.
#[must_use]
pub fn denied(ip: IpAddr, deny: &[Network]) -> Option<&'static str> {
    deny.iter().any(|network| network.contains(ip)).then_some("`deny` of its sink contains it")
}

/// The same for the host of a URL that is an address.
#[must_use]
pub fn denied_host(host: &Host<&str>, deny: &[Network]) -> Option<&'static str> {
    match host {
        Host::Ipv4(ip) => denied(IpAddr::V4(*ip), deny),
        Host::Ipv6(ip) => denied(IpAddr::V6(*ip), deny),
        Host::Domain(_) => None,
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
    if METADATA_V6.iter().any(|network| network.has(ip.to_bits(), false)) {
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

/// The IPv4 addresses that packets to this IPv6 address may reach. An operator's own prefixes for NAT64 (RFC 6052) and 6rd
/// (RFC 5969) are not known here: `deny:` is for them.
fn embedded(ip: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    let bits = ip.to_bits();
    // The 32 bits from there on, without the eight from bit 64 on, which RFC 6052 reserves.
    let split = |from: u32| {
        let before = 64 - from;
        let high = if before == 0 { 0 } else { (bits >> 64) & ((1 << before) - 1) };
        let low = (bits >> (24 + before)) & ((1 << (32 - before)) - 1);
        u32::try_from((high << (32 - before)) | low).map(Ipv4Addr::from).ok()
    };
    #[allow(clippy::match_same_arms, reason = "each form has its own source")]
    let found = match ip.segments() {
        _ if ip.is_unspecified() || ip.is_loopback() => [None; 4],
        // Mapped and compatible (RFC 4291, 2.5.5), translated (RFC 2765, 2.1), NAT64's well-known prefix (RFC 6052, 2.1).
        [0, 0, 0, 0, 0, 0xffff | 0, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => [Some(v4(high, low)), None, None, None],
        // NAT64 for local use (RFC 8215): a prefix of 48, 56, 64 or 96 bits in there (RFC 6052, 2.2).
        [0x64, 0xff9b, 1, .., high, low] => [split(48), split(56), split(64), Some(v4(high, low))],
        // 6to4 (RFC 3056, 2).
        [0x2002, high, low, ..] => [Some(v4(high, low)), None, None, None],
        // Teredo (RFC 4380, 4): its server, and the client with each bit inverted.
        [0x2001, 0, high, low, .., last_high, last_low] => {
            [Some(v4(high, low)), Some(v4(!last_high, !last_low)), None, None]
        }
        // ISATAP (RFC 5214, 6.1).
        [.., 0 | 0x200, 0x5efe, high, low] => [Some(v4(high, low)), None, None, None],
        _ => [None; 4],
    };
    found.into_iter().flatten()
}

/// Whether the form of the address fixes the place of the embedded IPv4 address.
fn is_direct(ip: Ipv6Addr) -> bool {
    !matches!(ip.segments(), [0x64, 0xff9b, 1, ..] | [0x2001, 0, ..])
}

/// Whether a URL names this machine itself, so that nothing is sent over a network.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

/// Why a broker's URL is ambiguous. A user or password with `@`, `/`, `?` or `#` in it would end too early, and a part of it
/// would be read as the host or the virtual host, which messages show.
#[must_use]
pub fn ambiguous_broker_url(text: &str) -> Option<&'static str> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let (_, after) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if after.contains('@') {
        return Some("there is an `@` after the first `/`, `?` or `#`, so the beginning of the host is ambiguous");
    }
    let escape = |text: &str| text.get(..2).is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if !rest.split('%').skip(1).all(escape) {
        return Some("a `%` in a URL begins an escape of two hexadecimal digits, and this one doesn't");
    }
    let outside = text.chars().any(|char| char.is_whitespace() || char.is_control() || char == '\\');
    outside.then_some("white space, control characters and backslashes can't be a part of a URL")
}

/// A host and a port in a URL: an IPv6 address is in brackets.
#[must_use]
pub fn host_and_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Why a URL for HTTP is ambiguous. Its path may contain an `@`.
#[must_use]
pub fn ambiguous_web_url(text: &str) -> Option<&'static str> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let (authority, after) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    (authority.contains('@') && after.contains('@')).then_some(
        "there is an `@` before the first `/`, `?` or `#`, and another one after it, so the beginning of the host is ambiguous",
    )
}

/// What WHATWG's URL parser (URL Standard, 4.4) would silently repair. With an empty host, for example, the next part becomes
/// the host, and events would go there.
#[must_use]
pub fn repaired_web_url(text: &str) -> Option<&'static str> {
    if text.chars().any(|char| char.is_control() || char.is_whitespace()) {
        return Some("white space and control characters can't be a part of a URL");
    }
    let rest = text.split_once(':')?.1;
    let Some(rest) = rest.strip_prefix("//") else { return Some("the scheme is not followed by `//`") };
    let (authority, _) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
    let host_and_port = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if host_and_port.is_empty() {
        return Some("there is no host in it");
    }
    if text.split(['?', '#']).next().unwrap_or_default().contains('\\') {
        return Some("a backslash would be read as a `/`: write `%5C` for a backslash");
    }
    let (host, port) = match host_and_port.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (host_and_port, None),
    };
    if port == Some("") {
        return Some("there is no port after the `:`");
    }
    if host.contains('%') {
        return Some("a `%` in the host would be read as another character");
    }
    let canonical = |ip: Ipv4Addr| ip.to_string() == host;
    match Host::parse(host) {
        Ok(Host::Ipv4(ip)) if !canonical(ip) => {
            Some("its host would be read as an address with other numbers: write all four numbers")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(ip: &str) -> bool {
        forbidden(ip.parse().unwrap()).is_some()
    }

    #[test]
    fn addresses_of_the_machine_and_of_metadata_services_are_forbidden_in_every_notation() {
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
            "fd00:ec2::23",
            "fd00:ec2:1::1",
            "fd20:ce::254",
            "fd00:42::42",
            "fd00:c1::a9fe:a9fe",
            "fd00:a9fe:a9fe::1",
            "fd00:100::100:200",
            "::",
            "ff02::1",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::169.254.169.254",
            "2002:a9fe:a9fe::1",
            "::ffff:0.0.0.0",
            "::ffff:0:169.254.169.254",
            "64:ff9b:1::169.254.169.254",
            "64:ff9b:1:a9fe:a9:fe00::",
            "64:ff9b:1:a9:fe:a9fe::",
            "64:ff9b:1:aa:a9:fea9:fe00:0",
            "2001:0:a9fe:a9fe::1",
            "2001:0:808:808:0:0:5601:5601",
            "2001:db8::5efe:169.254.169.254",
            "2001:db8::200:5efe:169.254.169.254",
            "fe80::5efe:10.0.0.1",
            "64:ff9b::168.63.129.16",
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
            "64:ff9b:1::10.0.0.1",
            "64:ff9b:1:a00:0:100::",
            "64:ff9b:1:a:0:1::",
            "64:ff9b:1:1:a:0:100:0",
            "2001:0:808:808:0:0:f5ff:fffe",
            "2001:db8::5efe:10.0.0.1",
            "fd00:ec3::254",
            "fd00:42::43",
        ] {
            assert!(!refused(ip), "{ip}");
        }
    }

    #[test]
    fn a_network_contains_an_address_in_every_notation() {
        let contains = |network: &str, ip: &str| network.parse::<Network>().unwrap().contains(ip.parse().unwrap());
        for (network, ip, is_in) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("10.0.0.0/8", "64:ff9b::10.0.0.1", true),
            ("10.0.0.0/8", "a00::1", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "8.8.8.8", false),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fc00::1", false),
            ("2001:db8::1/128", "2001:db8::2", false),
        ] {
            assert_eq!(contains(network, ip), is_in, "{ip} in {network}");
        }
        for wrong in
            ["", "10", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.1/8", "::/129", "fd00::1/8", "a.b", "::1/0"]
        {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_url_that_a_parser_would_repair_is_refused() {
        for url in [
            "https:///hooks",
            "https://",
            "https:////hooks",
            "https:hooks",
            "https:/hooks",
            "https:\\\\hooks/x",
            "https://me:pass@/hooks",
            "https://?x",
            "https://host\\@evil.example/",
            "https://host/a\\b",
            "https://ho\nst/",
            "https://host/a b",
            "https://host:/hooks",
            "https://127.1/",
            "https://10.1.2/",
            "https://0x7f.0.0.1/",
            "https://2130706433/",
            "https://010.0.0.1/",
            "https://ex%61mple.org/",
        ] {
            assert!(repaired_web_url(url).is_some(), "{url}");
        }
        for url in [
            "https://host/hooks?a=b\\c",
            "https://HOST:8443",
            "https://me:p%40ss@host/a@b",
            "http://127.0.0.1:80/",
            "http://[::1]:80/x:y",
            "https://1and1.example/",
            "https://müller.example/ä",
        ] {
            assert_eq!(repaired_web_url(url), None, "{url}");
        }
    }

    #[test]
    fn hosts_of_urls_are_parsed_as_by_browsers() {
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
