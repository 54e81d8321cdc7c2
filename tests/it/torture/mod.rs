//! Torture: everything that can fail does, repeatedly and at the same time, while REGARDS publishes. Then a checker
//! compares the messages confirmed to REGARDS with the events at each destination.
//!
//! `make test` includes a run of about a minute; `make torture SEED=7 EVENTS=1000000` is a long one. [`settings`] has
//! the parameters of a run, [`plan`] the messages and the expected result of each, [`publisher`] publishes;
//! [`schedule`] draws the faults, [`nemesis`] and [`havoc`] execute them; [`fleet`] is the relays, of which one owns the
//! spool, and [`owners`] checks what each one wrote and sent; [`receiver`] is the webhook, [`collector`] reads all
//! destinations; [`taken`], [`digests`] and [`alerts`] are what they received; [`run`] is one whole run, and
//! [`checker`] judges it within [`bounds`]. [`failpoints`] shows that it finds what a broken relay does.

mod alerts;
mod book;
mod bounds;
mod checker;
mod collector;
mod digests;
mod disk;
mod failpoints;
mod fleet;
mod havoc;
mod letters;
mod nemesis;
pub mod owners;
mod plan;
mod probe;
mod publisher;
mod receiver;
mod run;
mod schedule;
mod settings;
mod table;
mod taken;
mod world;

use schedule::Schedule;
use settings::Settings;
use world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_invented_or_reordered_whatever_fails() {
    let settings = Settings::from_environment();
    println!("torture: seed {}; this run again: {settings}", settings.seed);
    let _repeat = Repeat(&settings);
    let mut world = World::new(&settings).await;
    if !cfg!(debug_assertions) {
        println!(
            "torture: a build without debug assertions has no faults on purpose: no thread dies, and no clock jumps"
        );
    }
    let schedule = Schedule::of(&settings, world.disk.is_some());
    let wrong = Box::pin(run::run(&settings, &schedule, &mut world)).await;
    assert!(wrong.is_empty(), "with seed {}:\n{}", settings.seed, wrong.join("\n"));
}

/// Prints the command that repeats a failed run, wherever it fails.
struct Repeat<'a>(&'a Settings);

impl Drop for Repeat<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("torture: failed with seed {}; this run again: {}", self.0.seed, self.0);
        }
    }
}
