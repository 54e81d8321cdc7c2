//! Credentials, by MIT Kerberos' GSSAPI (RFC 2744) and its extension for stores of credentials (`gssapi_ext.h`).

use std::ffi::{CString, c_char, c_int, c_void};
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::ptr;

use super::Login;

/// `gss_buffer_desc`.
#[repr(C)]
struct Buffer {
    length: usize,
    value: *mut c_void,
}

/// `gss_key_value_element_desc`.
#[repr(C)]
struct KeyValue {
    key: *const c_char,
    value: *const c_char,
}

/// `gss_key_value_set_desc`.
#[repr(C)]
struct KeyValueSet {
    count: u32,
    elements: *const KeyValue,
}

/// `GSS_C_INITIATE`.
const INITIATE: c_int = 1;
/// `GSS_C_INDEFINITE`.
const INDEFINITE: u32 = u32::MAX;
/// `GSS_C_GSS_CODE` and `GSS_C_MECH_CODE`: which of the two codes is explained.
const MAJOR: c_int = 1;
const MINOR: c_int = 2;
/// The part of a major code with an error. The rest informs.
const ERRORS: u32 = 0xffff_0000;

unsafe extern "C" {
    safe static GSS_C_NT_USER_NAME: *const c_void;

    fn gss_import_name(minor: *mut u32, name: *const Buffer, kind: *const c_void, out: *mut *mut c_void) -> u32;
    fn gss_release_name(minor: *mut u32, name: *mut *mut c_void) -> u32;
    fn gss_acquire_cred_from(
        minor: *mut u32,
        name: *mut c_void,
        time: u32,
        mechanisms: *const c_void,
        usage: c_int,
        store: *const KeyValueSet,
        out: *mut *mut c_void,
        actual_mechanisms: *mut c_void,
        actual_time: *mut u32,
    ) -> u32;
    fn gss_release_cred(minor: *mut u32, credential: *mut *mut c_void) -> u32;
    fn gss_release_buffer(minor: *mut u32, buffer: *mut Buffer) -> u32;
    fn gss_display_status(
        minor: *mut u32,
        value: u32,
        kind: c_int,
        mechanism: *const c_void,
        context: *mut u32,
        out: *mut Buffer,
    ) -> u32;

    fn krb5_init_context(out: *mut *mut c_void) -> i32;
    fn krb5_free_context(context: *mut c_void);
    fn krb5_cc_resolve(context: *mut c_void, name: *const c_char, out: *mut *mut c_void) -> i32;
    fn krb5_cc_destroy(context: *mut c_void, cache: *mut c_void) -> i32;
}

/// A `gss_cred_id_t` with the ticket of a login.
pub(super) struct Credential(*mut c_void);

impl Credential {
    /// Gets a ticket into the cache of that id, unless there is one with more than half of its life. May block.
    pub(super) fn acquire(id: &str, login: &Login) -> Result<Self, String> {
        // MIT Kerberos doesn't say that it couldn't read the file.
        File::open(&login.keytab)
            .map_err(|error| format!("the keytab {} can't be read: {error}", login.keytab.display()))?;
        let (credential, left) = Self::acquire_any(id, login)?;
        if left > 0 {
            return Ok(credential);
        }
        // MIT Kerberos hides why it can't replace a ticket that has ended. Without that ticket it tells.
        drop(credential);
        destroy_cache(id);
        Self::acquire_any(id, login).map(|(credential, _)| credential)
    }

    /// The ticket may have ended: the rest of its life is in seconds.
    fn acquire_any(id: &str, login: &Login) -> Result<(Self, u32), String> {
        let nul = |_| "there is a NUL character in the principal or in the path of the keytab".to_owned();
        let mut path = b"FILE:".to_vec();
        path.extend_from_slice(login.keytab.as_os_str().as_bytes());
        let keytab = CString::new(path).map_err(nul)?;
        let cache = CString::new(cache(id)).map_err(nul)?;
        let name = Name::import(&login.principal)?;
        let elements = [
            KeyValue { key: c"client_keytab".as_ptr(), value: keytab.as_ptr() },
            KeyValue { key: c"ccache".as_ptr(), value: cache.as_ptr() },
        ];
        let store = KeyValueSet { count: 2, elements: elements.as_ptr() };
        let (mut minor, mut credential, mut left) = (0, ptr::null_mut(), 0);
        // SAFETY: all pointers are of values that live until the call returns, with the layout of the header; a null
        // pointer leaves an optional result out.
        let major = unsafe {
            gss_acquire_cred_from(
                &raw mut minor,
                name.0,
                INDEFINITE,
                ptr::null(),
                INITIATE,
                &raw const store,
                &raw mut credential,
                ptr::null_mut(),
                &raw mut left,
            )
        };
        check(major, minor)?;
        Ok((Self(credential), left))
    }

    /// The `gss_cred_id_t`, valid as long as this lives.
    pub(super) fn as_ptr(&self) -> *const c_void {
        self.0
    }
}

impl Drop for Credential {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: the credential is one of `gss_acquire_cred_from`, and is released once.
        unsafe { gss_release_cred(&raw mut minor, &raw mut self.0) };
    }
}

/// A `gss_name_t`.
struct Name(*mut c_void);

impl Name {
    fn import(principal: &str) -> Result<Self, String> {
        let text = Buffer { length: principal.len(), value: principal.as_ptr().cast_mut().cast() };
        let (mut minor, mut name) = (0, ptr::null_mut());
        // SAFETY: the buffer is only read; the other pointers are of values that live until the call returns.
        let major = unsafe { gss_import_name(&raw mut minor, &raw const text, GSS_C_NT_USER_NAME, &raw mut name) };
        check(major, minor)?;
        Ok(Self(name))
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: the name is one of `gss_import_name`, and is released once.
        unsafe { gss_release_name(&raw mut minor, &raw mut self.0) };
    }
}

/// The name of the cache of that id. Only this process sees it.
fn cache(id: &str) -> String {
    format!("MEMORY:{id}")
}

/// Forgets the tickets in the cache of that id.
pub(super) fn destroy_cache(id: &str) {
    let Ok(name) = CString::new(cache(id)) else { return };
    let (mut context, mut found) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: each pointer is used only after the call that sets it has succeeded; `krb5_cc_destroy` also releases the handle.
    unsafe {
        if krb5_init_context(&raw mut context) != 0 {
            return;
        }
        if krb5_cc_resolve(context, name.as_ptr(), &raw mut found) == 0 {
            krb5_cc_destroy(context, found);
        }
        krb5_free_context(context);
    }
}

/// The words of MIT Kerberos for an error.
fn check(major: u32, minor: u32) -> Result<(), String> {
    if major & ERRORS == 0 {
        return Ok(());
    }
    let detail = explain(minor, MINOR);
    // The major code says only which kind of error it is.
    Err(if minor == 0 || detail.is_empty() { explain(major, MAJOR) } else { detail })
}

fn explain(value: u32, kind: c_int) -> String {
    let (mut minor, mut context) = (0, 0);
    let mut text = Buffer { length: 0, value: ptr::null_mut() };
    // SAFETY: the pointers are of values that live until the call returns. The buffer has `length` bytes if its value is not null, and
    // is released once, after it was copied.
    unsafe {
        gss_display_status(&raw mut minor, value, kind, ptr::null(), &raw mut context, &raw mut text);
        if text.value.is_null() {
            return String::new();
        }
        let bytes = std::slice::from_raw_parts(text.value.cast::<u8>(), text.length);
        let copied = String::from_utf8_lossy(bytes).into_owned();
        gss_release_buffer(&raw mut minor, &raw mut text);
        copied
    }
}
