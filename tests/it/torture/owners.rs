//! The owners of the shared spool, as its database and the webhook saw them: of two owners the earlier one writes nothing after the later
//! one's first write, and a relay sends nothing that it began after its lease.

use super::fleet::Database;

/// Who had the spool, and when, in seconds since 1970.
#[derive(Debug, Clone)]
pub struct Tenure {
    pub process: u32,
    pub from: f64,
    /// When the lease ended or would have ended.
    pub until: f64,
}

/// An attempt of the relay at that place, and when it began, in whole seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptStart {
    pub place: usize,
    pub began: u64,
}

/// The triggers run in the order of the writes to a row that each transaction of an owner has locked.
pub const NOTES: &str = "
    CREATE TABLE $.noted_writes (n bigserial PRIMARY KEY, epoch bigint NOT NULL);
    CREATE TABLE $.noted_leases (n bigserial PRIMARY KEY, epoch bigint NOT NULL, owner text, at timestamptz NOT NULL,
        expires_at timestamptz NOT NULL);
    CREATE FUNCTION $.note_write() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
        'BEGIN INSERT INTO $.noted_writes (epoch) VALUES (NEW.epoch); RETURN NULL; END';
    CREATE FUNCTION $.note_row() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
        'BEGIN INSERT INTO $.noted_writes (epoch) VALUES (NEW.id >> 40); RETURN NULL; END';
    CREATE FUNCTION $.note_lease() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
        'BEGIN INSERT INTO $.noted_leases (epoch, owner, at, expires_at)
            SELECT NEW.epoch, (SELECT name FROM $.instances WHERE id = NEW.owner), clock_timestamp(), NEW.expires_at;
        RETURN NULL; END';
    CREATE TRIGGER note AFTER INSERT OR UPDATE ON $.shard_batches FOR EACH ROW EXECUTE FUNCTION $.note_write();
    CREATE TRIGGER note AFTER INSERT ON $.deliveries FOR EACH ROW EXECUTE FUNCTION $.note_row();
    CREATE TRIGGER note AFTER INSERT OR UPDATE ON $.shards FOR EACH ROW EXECUTE FUNCTION $.note_lease();
    INSERT INTO $.noted_leases (epoch, owner, at, expires_at)
        SELECT epoch, name, clock_timestamp() - interval '1 minute', expires_at FROM $.shards JOIN $.instances ON id = owner";

pub const LATE_WRITES: &str = "SELECT count(*) FROM (SELECT epoch, max(epoch) OVER (ORDER BY n) AS highest FROM $.noted_writes) w WHERE epoch < highest";

const TENURES: &str = "SELECT substring(max(owner) FROM 'process ([0-9]+)'), extract(epoch FROM min(at)),
    extract(epoch FROM (array_agg(expires_at ORDER BY n DESC))[1]) FROM $.noted_leases GROUP BY epoch
    HAVING max(owner) IS NOT NULL ORDER BY epoch";

impl Database {
    /// Notes each write and each lease from now on. To be called when the first relay owns the spool.
    pub async fn note_owners(&self) {
        self.execute(NOTES).await;
    }

    /// How many writes of an owner came after the first one of a later owner.
    pub async fn late_writes(&self) -> u64 {
        self.execute(LATE_WRITES).await.parse().expect("a number")
    }

    /// In the order of the owners.
    pub async fn tenures(&self) -> Vec<Tenure> {
        let found = self.execute(TENURES).await;
        let tenure = |line: &str| {
            let mut columns = line.split('|');
            let mut column = || columns.next().expect("three columns");
            Tenure {
                process: column().parse().expect("a process"),
                from: column().parse().expect("a time"),
                until: column().parse().expect("a time"),
            }
        };
        found.lines().map(tenure).collect()
    }
}

/// The attempts that a relay began when it did not own the spool. `processes` are those of the relays so far, with their places.
pub fn attempts_without_lease(
    attempts: &[AttemptStart],
    tenures: &[Tenure],
    processes: &[(usize, u32)],
) -> Vec<AttemptStart> {
    let is_owner = |attempt: &AttemptStart| {
        let is_of_place = |tenure: &&Tenure| processes.contains(&(attempt.place, tenure.process));
        #[expect(clippy::cast_precision_loss, reason = "a time in seconds")]
        let began = attempt.began as f64;
        tenures.iter().filter(is_of_place).any(|tenure| tenure.from.floor() <= began && began <= tenure.until)
    };
    attempts.iter().filter(|attempt| !is_owner(attempt)).copied().collect()
}

#[test]
fn a_request_that_was_begun_outside_a_lease_is_found() {
    let tenure = |process, from, until| Tenure { process, from, until };
    let tenures = [tenure(10, 100.4, 120.9), tenure(20, 121.5, 150.2), tenure(11, 151.0, 160.0)];
    let processes = [(0, 10), (1, 20), (0, 11)];
    let late =
        |place, began| !attempts_without_lease(&[AttemptStart { place, began }], &tenures, &processes).is_empty();
    assert!(!late(0, 100) && !late(0, 120) && !late(1, 121) && !late(1, 150) && !late(0, 155));
    assert!(late(0, 99) && late(0, 121) && late(0, 150) && late(1, 120) && late(1, 151) && late(2, 130));
}
