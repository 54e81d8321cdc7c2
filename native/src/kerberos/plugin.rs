//! The client mechanism that is added to Cyrus SASL (`saslplug.h`).

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::ptr;
use std::sync::OnceLock;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::producer::BaseProducer;
use sasl2_sys::sasl::{SASL_CB_AUTHNAME, SASL_FAIL, SASL_OK, sasl_client_init, sasl_interact_t};
use sasl2_sys::saslplug::{
    sasl_client_add_plugin, sasl_client_params_t, sasl_client_plug_t, sasl_out_params_t, sasl_utils_t,
};

use super::gss::Credential;

unsafe extern "C" {
    /// Cyrus' own mechanism, in the archive that sasl2-sys builds.
    fn gssapiv2_client_plug_init(
        utils: *const sasl_utils_t,
        max_version: c_int,
        version: *mut c_int,
        list: *mut *mut sasl_client_plug_t,
        count: *mut c_int,
    ) -> c_int;
}

/// The type of librdkafka's `SASL_CB_AUTHNAME` (`sasl_getsimple_t`).
type GetName = unsafe extern "C" fn(*mut c_void, c_int, *mut *const c_char, *mut c_uint) -> c_int;

/// Cyrus' own mechanism.
struct Original(sasl_client_plug_t);

// SAFETY: the struct is not changed after it was made; its pointers are of static functions and constants of Cyrus.
unsafe impl Send for Original {}
// SAFETY: as above.
unsafe impl Sync for Original {}

static ORIGINAL: OnceLock<Original> = OnceLock::new();

/// The state of one connection's login.
struct Connection {
    original: *mut c_void,
    credential: Option<Credential>,
}

/// Adds the mechanism, once.
pub(super) fn install() -> Result<(), String> {
    static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();
    INSTALLED.get_or_init(add_to_cyrus).clone()
}

fn add_to_cyrus() -> Result<(), String> {
    // While a client of librdkafka exists, no other one initializes Cyrus, which must not happen on two threads at once.
    let mut settings = ClientConfig::new();
    settings.set_log_level(RDKafkaLogLevel::Emerg);
    let _client: BaseProducer = settings.create().map_err(|error| error.to_string())?;
    // SAFETY: Cyrus takes no callbacks by a null pointer. No connection uses its list of mechanisms yet: the relay registers a login
    // before it makes the first one.
    let added = unsafe {
        match sasl_client_init(ptr::null()) {
            SASL_OK => sasl_client_add_plugin(c"regards-relay".as_ptr(), Some(init)),
            failed => failed,
        }
    };
    if added == SASL_OK { Ok(()) } else { Err(format!("Cyrus SASL can't be initialized (its error is {added})")) }
}

/// `sasl_client_plug_init_t`.
unsafe extern "C" fn init(
    utils: *const sasl_utils_t,
    max_version: c_int,
    version: *mut c_int,
    list: *mut *mut sasl_client_plug_t,
    count: *mut c_int,
) -> c_int {
    let (mut originals, mut number) = (ptr::null_mut(), 0);
    // SAFETY: Cyrus' function gets the arguments of this one, and two results that live until it returns.
    let result = unsafe { gssapiv2_client_plug_init(utils, max_version, version, &raw mut originals, &raw mut number) };
    if result != SASL_OK || originals.is_null() {
        return SASL_FAIL;
    }
    // SAFETY: the list has that many entries and is static.
    let originals = unsafe { std::slice::from_raw_parts(originals, usize::try_from(number).unwrap_or_default()) };
    // SAFETY: the name of a mechanism is a static text.
    let is_gssapi = |plug: &&sasl_client_plug_t| unsafe { CStr::from_ptr(plug.mech_name) } == c"GSSAPI";
    let Some(original) = originals.iter().find(is_gssapi) else { return SASL_FAIL };
    let ours = sasl_client_plug_t {
        mech_new: Some(mech_new),
        mech_step: Some(mech_step),
        mech_dispose: Some(mech_dispose),
        mech_free: None,
        // Of two mechanisms Cyrus prefers the stronger one.
        max_ssf: original.max_ssf + 1,
        ..*original
    };
    let _ = ORIGINAL.set(Original(*original));
    // SAFETY: the results are Cyrus' own variables. Cyrus keeps the list for as long as the process runs, so it is never freed.
    unsafe {
        *list = Box::into_raw(Box::new(ours));
        *count = 1;
    }
    SASL_OK
}

unsafe extern "C" fn mech_new(_: *mut c_void, params: *mut sasl_client_params_t, out: *mut *mut c_void) -> c_int {
    let Some(Original(original)) = ORIGINAL.get() else { return SASL_FAIL };
    let Some(new) = original.mech_new else { return SASL_FAIL };
    let mut state = ptr::null_mut();
    // SAFETY: Cyrus' function gets the arguments of this one, and a result that lives until it returns.
    let result = unsafe { new(original.glob_context, params, &raw mut state) };
    if result == SASL_OK {
        let connection = Connection { original: state, credential: None };
        // SAFETY: the result is Cyrus' own variable. `mech_dispose` frees the connection.
        unsafe { *out = Box::into_raw(Box::new(connection)).cast() };
    }
    result
}

unsafe extern "C" fn mech_step(
    connection: *mut c_void,
    params: *mut sasl_client_params_t,
    server: *const c_char,
    server_length: c_uint,
    prompt: *mut *mut sasl_interact_t,
    client: *mut *const c_char,
    client_length: *mut c_uint,
    out: *mut sasl_out_params_t,
) -> c_int {
    let Some(Original(original)) = ORIGINAL.get() else { return SASL_FAIL };
    let Some(step) = original.mech_step else { return SASL_FAIL };
    // SAFETY: Cyrus passes the connection of `mech_new` and its own parameters, which no other thread uses meanwhile.
    let (connection, parameters) = unsafe { (&mut *connection.cast::<Connection>(), &mut *params) };
    if connection.credential.is_none() {
        // SAFETY: the utilities of a connection are valid in each of its steps.
        match unsafe { credential(&*parameters.utils) } {
            Ok(credential) => connection.credential = Some(credential),
            Err(error) => {
                // SAFETY: as above.
                unsafe { report(&*parameters.utils, error) };
                return SASL_FAIL;
            }
        }
    }
    parameters.gss_creds = connection.credential.as_ref().map_or(ptr::null(), Credential::as_ptr);
    // SAFETY: Cyrus' function gets the arguments of this one and its own state. The credential lives as long as the connection.
    unsafe { step(connection.original, params, server, server_length, prompt, client, client_length, out) }
}

unsafe extern "C" fn mech_dispose(connection: *mut c_void, utils: *const sasl_utils_t) {
    if connection.is_null() {
        return;
    }
    // SAFETY: the connection is one of `mech_new`, and Cyrus disposes of it once.
    let connection = unsafe { Box::from_raw(connection.cast::<Connection>()) };
    if let Some(dispose) = ORIGINAL.get().and_then(|Original(original)| original.mech_dispose) {
        // SAFETY: the state is that of Cyrus' own `mech_new`, and is disposed of once.
        unsafe { dispose(connection.original, utils) };
    }
}

/// The credential of the login that librdkafka names.
///
/// # Safety
/// The utilities must be those of a connection of librdkafka.
unsafe fn credential(utils: &sasl_utils_t) -> Result<Credential, String> {
    // SAFETY: the caller has promised it.
    let id = unsafe { login_id(utils) }.ok_or("librdkafka names no login")?;
    let login = super::find(&id).ok_or("the login is not known any more")?;
    Credential::acquire(&id, &login)
}

/// librdkafka's `sasl.username`.
///
/// # Safety
/// The utilities must be those of a connection of librdkafka.
unsafe fn login_id(utils: &sasl_utils_t) -> Option<String> {
    let (mut callback, mut context) = (None, ptr::null_mut());
    // SAFETY: the results live until the call returns.
    let found = unsafe { (utils.getcallback?)(utils.conn, SASL_CB_AUTHNAME, &raw mut callback, &raw mut context) };
    if found != SASL_OK {
        return None;
    }
    // SAFETY: this is the type of the callback with that number (`sasl.h`).
    let get: GetName = unsafe { std::mem::transmute::<unsafe extern "C" fn() -> c_int, GetName>(callback?) };
    let (mut text, mut length) = (ptr::null(), 0);
    let number = c_int::try_from(SASL_CB_AUTHNAME).ok()?;
    // SAFETY: the callback gets its own context, and results that live until it returns. The text is librdkafka's, which does not change
    // it while it holds the lock of its login, as it does now.
    unsafe {
        if get(context, number, &raw mut text, &raw mut length) != SASL_OK || text.is_null() {
            return None;
        }
        Some(CStr::from_ptr(text).to_string_lossy().into_owned())
    }
}

/// Makes it the error of the connection.
///
/// # Safety
/// The utilities must be those of a connection.
unsafe fn report(utils: &sasl_utils_t, error: String) {
    if let (Some(report), Ok(text)) = (utils.seterror, CString::new(error)) {
        // SAFETY: the format takes one text, which Cyrus copies.
        unsafe { report(utils.conn, 0, c"%s".as_ptr(), text.as_ptr()) };
    }
}
