//! Damages rows of a spool while no relay runs.

use rusqlite::Connection;

use super::Home;

/// Makes the oldest row in the sink's backlog whose message matches `may_be` unreadable: its properties are no longer
/// JSON. Returns the message's body, or `None` if no row matches.
pub fn damage_row(home: &Home, sink: &str, may_be: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    let spool = Connection::open(home.data("spool.db")).expect("the spool");
    let (id, body) = {
        let mut rows = spool.prepare("SELECT id, body FROM deliveries WHERE sink = ? ORDER BY id").expect("a spool");
        let rows = rows.query_map([sink], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)));
        rows.expect("rows").map(|row| row.expect("a row")).find(|(_, body)| may_be(body))?
    };
    let damaged = spool.execute("UPDATE deliveries SET properties = '{' WHERE id = ?", [id]).expect("damaged");
    assert_eq!(damaged, 1, "a row was there");
    Some(body)
}
