//! A delivered line is in its file, complete, whatever happens to the file.

use std::fs;
use std::path::Path;

use super::open_files::MAX_OPEN;
use super::*;
use crate::config::{OrderBy, Retry, SinkKind};
use crate::event::{Format, Reason, Template};
use crate::rules::SinkName;
use crate::sink::Blame;
use crate::sink::fixtures::{Attempts, event, message, outgoing};

struct Fixture {
    dir: tempfile::TempDir,
    writer: LineWriter,
    attempts: Attempts,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let writer = LineWriter::new(
            FileOutput(Appender::new(dir.path().join("data"), Arc::new(OpenFiles::new(MAX_OPEN)))),
            Arc::clone(&POOL),
        );
        Self { dir, writer, attempts: Attempts::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("data").join(name)
    }

    async fn line(&mut self, name: &str, body: &str) -> Verdict {
        let destination = Destination::File { path: self.path(name) };
        self.writer.push(outgoing(destination, body), self.attempts.start());
        self.attempts.ended().await.1
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }
}

fn blames(verdict: &Verdict, expected: Blame, words: &str) {
    assert!(
        matches!(verdict, Verdict::Retry { blame, cause, .. } if *blame == expected && cause.contains(words)),
        "{verdict:?}"
    );
}

#[tokio::test]
async fn lines_are_appended_and_directories_created() {
    let mut fixture = Fixture::new();
    for body in ["one", "two"] {
        assert!(fixture.line("a/b/c.ndjson", body).await.is_delivered());
    }
    assert_eq!(fixture.read("a/b/c.ndjson"), "one\ntwo\n");
}

#[tokio::test]
async fn many_files_at_once_each_get_their_lines_in_order() {
    let mut fixture = Fixture::new();
    for number in 0..2000 {
        let path = fixture.path(&format!("{}", number % 7));
        let line = outgoing(Destination::File { path }, &number.to_string());
        fixture.writer.push(line, fixture.attempts.start());
    }
    for _ in 0..2000 {
        assert!(fixture.attempts.ended().await.1.is_delivered());
    }
    for file in 0..7 {
        let written = fixture.read(&file.to_string());
        let expected: Vec<_> = (0..2000).filter(|number| number % 7 == file).map(|number| number.to_string()).collect();
        assert_eq!(written.lines().collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn a_torn_line_does_not_swallow_the_next() {
    let mut fixture = Fixture::new();
    fs::create_dir_all(fixture.path("")).unwrap();
    fs::write(fixture.path("x"), "whole\nto").unwrap();
    assert!(fixture.line("x", "next").await.is_delivered());
    assert!(fixture.line("x", "more").await.is_delivered());
    assert_eq!(fixture.read("x"), "whole\nto\nnext\nmore\n");
}

#[tokio::test]
async fn a_renamed_or_deleted_file_is_created_again() {
    let mut fixture = Fixture::new();
    fixture.line("x", "one").await;
    fs::rename(fixture.path("x"), fixture.path("x.1")).unwrap();
    assert!(fixture.line("x", "two").await.is_delivered());
    fs::remove_file(fixture.path("x")).unwrap();
    assert!(fixture.line("x", "three").await.is_delivered());
    assert_eq!(fixture.read("x.1"), "one\n");
    assert_eq!(fixture.read("x"), "three\n");
}

#[tokio::test]
async fn a_truncated_file_is_still_used() {
    let mut fixture = Fixture::new();
    fixture.line("x", "one").await;
    fs::OpenOptions::new().write(true).truncate(true).open(fixture.path("x")).unwrap();
    fixture.line("x", "two").await;
    assert_eq!(fixture.read("x"), "two\n");
}

#[tokio::test]
async fn a_deleted_directory_is_created_again() {
    let mut fixture = Fixture::new();
    fixture.line("a/x", "one").await;
    fs::remove_dir_all(fixture.path("a")).unwrap();
    assert!(fixture.line("a/x", "two").await.is_delivered());
    assert_eq!(fixture.read("a/x"), "two\n");
}

#[tokio::test]
async fn only_regular_files_are_written_to() {
    let mut fixture = Fixture::new();
    fs::create_dir_all(fixture.path("dir")).unwrap();
    fixture.line("file", "x").await;
    blames(&fixture.line("dir", "x").await, Blame::Delivery, "not a file");
    blames(&fixture.line("file/x", "x").await, Blame::Delivery, "file");
}

#[tokio::test]
async fn symbolic_links_do_not_lead_out_of_the_data_directory() {
    let mut fixture = Fixture::new();
    let outside = fixture.dir.path().join("outside");
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("victim"), "kept\n").unwrap();
    fs::create_dir_all(fixture.path("")).unwrap();
    std::os::unix::fs::symlink(&outside, fixture.path("dir")).unwrap();
    std::os::unix::fs::symlink(outside.join("victim"), fixture.path("file")).unwrap();
    blames(&fixture.line("dir/new", "x").await, Blame::Delivery, "out of the data directory");
    blames(&fixture.line("dir/sub/new", "x").await, Blame::Delivery, "out of the data directory");
    blames(&fixture.line("file", "x").await, Blame::Delivery, "symbolic link");
    assert_eq!(fs::read_to_string(outside.join("victim")).unwrap(), "kept\n");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[tokio::test]
async fn a_data_directory_that_is_a_file_is_tried_again() {
    let mut fixture = Fixture::new();
    fs::write(fixture.path("").as_path().to_str().unwrap().trim_end_matches('/'), "in the way").unwrap();
    assert!(matches!(fixture.line("x", "one").await, Verdict::Retry { .. }));
    fs::remove_file(fixture.dir.path().join("data")).unwrap();
    assert!(fixture.line("x", "one").await.is_delivered());
    assert_eq!(fixture.read("x"), "one\n");
}

#[tokio::test]
async fn the_open_files_of_all_sinks_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::new();
    let files = Arc::new(OpenFiles::new(8));
    let sinks = [0, 1].map(|_| {
        LineWriter::new(FileOutput(Appender::new(dir.path().join("data"), Arc::clone(&files))), Arc::clone(&POOL))
    });
    for number in 0..30 {
        for (index, sink) in sinks.iter().enumerate() {
            let path = dir.path().join(format!("data/{index}/{number}"));
            sink.push(outgoing(Destination::File { path }, "x"), fixture.attempts.start());
            assert!(fixture.attempts.ended().await.1.is_delivered());
            assert!(open_below(dir.path()) <= 8, "{}", open_below(dir.path()));
        }
    }
    assert_eq!(open_below(dir.path()), 8);
    // The first file was closed meanwhile, and is opened again.
    let path = dir.path().join("data/0/0");
    sinks[0].push(outgoing(Destination::File { path: path.clone() }, "y"), fixture.attempts.start());
    assert!(fixture.attempts.ended().await.1.is_delivered());
    assert_eq!(fs::read_to_string(path).unwrap(), "x\ny\n");
    assert_eq!(files.close_some(), 2);
    assert_eq!(open_below(dir.path()), 6);
}

#[tokio::test]
async fn only_user_and_group_can_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let mut fixture = Fixture::new();
    assert!(fixture.line("a/b/x", "secret").await.is_delivered());
    for (path, expected) in [("a/b/x", 0o640), ("a/b", 0o750), ("a", 0o750)] {
        let mode = fs::metadata(fixture.path(path)).unwrap().permissions().mode() & 0o777;
        // The umask of the test may remove more permissions.
        assert_eq!(mode & !expected, 0, "{path} {mode:o}");
        assert_eq!(mode & 0o600, 0o600, "{path} {mode:o}");
    }
}

#[tokio::test]
async fn a_symbolic_link_that_replaces_an_open_file_is_not_followed() {
    let mut fixture = Fixture::new();
    assert!(fixture.line("x", "one").await.is_delivered());
    let outside = fixture.dir.path().join("victim");
    fs::write(&outside, "kept\n").unwrap();
    fs::remove_file(fixture.path("x")).unwrap();
    std::os::unix::fs::symlink(&outside, fixture.path("x")).unwrap();
    blames(&fixture.line("x", "two").await, Blame::Delivery, "symbolic link");
    assert_eq!(fs::read_to_string(outside).unwrap(), "kept\n");
}

#[test]
fn the_path_is_rendered_below_the_data_directory() {
    let file = FileConfig {
        dir: "/data".into(),
        reserved: vec!["/data/spool.db".into(), "/data/spool.lock".into(), "/data/control.sock".into()],
        path: Template::compile("{{ tenant }}/{{ correlationId }}").unwrap(),
    };
    let config = SinkConfig {
        name: SinkName::new("archive"),
        kind: SinkKind::File(file.clone()),
        format: Format::Original,
        masks: crate::config::Masks::default(),
        files: crate::config::NamedFiles::default(),
        keep_headers: Vec::new(),
        order_by: OrderBy::None,
        group: None,
        when_full: crate::config::WhenFull::Block,
        retry: Retry {
            initial_backoff: Duration::ZERO,
            max_backoff: Duration::ZERO,
            give_up_after: None,
            max_attempts: None,
            refuse_after: 3,
        },
    };
    let mut event = event();
    let rendered = render(&config, &file, EventView::of(&event, &message())).unwrap();
    assert_eq!(rendered.destination, Destination::File { path: "/data/cnes-a/c-1".into() });
    assert_eq!(rendered.body, message().body);
    for (tenant, id) in [
        ("..", "etc"),
        ("/etc", "passwd"),
        (".", "spool.db"),
        (".", "spool.db-wal"),
        (".", "spool.lock"),
        (".", "control.sock"),
        ("a", "b\nc"),
    ] {
        event.tenant = tenant.into();
        id.clone_into(&mut event.correlation_id);
        assert_eq!(
            render(&config, &file, EventView::of(&event, &message())).unwrap_err().reason,
            Reason::RenderFailed,
            "{tenant} {id}"
        );
    }
}

/// How many files below `dir` this process has open.
fn open_below(dir: &Path) -> usize {
    fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter(|path| path.starts_with(dir))
        .count()
}
