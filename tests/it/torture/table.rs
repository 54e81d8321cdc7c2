//! The result of a run as a table.

use super::checker::Report;
use super::plan::Sink;
use super::receiver::UnknownEnds;
use super::schedule::Tally;

/// Prints the events, the faults, and the due and received events of each sink.
pub fn print(counts: (u64, u64), tally: &Tally, unknown: UnknownEnds, report: &Report) {
    let (published, confirmed) = counts;
    println!("\nevents      {published} published, {confirmed} of them confirmed");
    println!(
        "webhook     {} events and {} digests taken whose end the relay could not know\n",
        unknown.events, unknown.digests
    );
    println!("{:<42} {:>6} {:>15}", "fault", "times", "hit work");
    for (fault, (times, hits)) in &tally.0 {
        println!("{:<42} {times:>6} {hits:>15}", fault.name());
    }
    println!(
        "\n{:<13} {:>9} {:>9} {:>10} {:>7} {:>6} {:>12} {:>8} {:>5}",
        "sink", "due", "delivered", "duplicates", "bound", "lost", "out of order", "invented", "torn"
    );
    for (sink, row) in Sink::ALL.into_iter().zip(&report.sinks) {
        println!(
            "{:<13} {:>9} {:>9} {:>10} {:>7} {:>6} {:>12} {:>8} {:>5}",
            sink.name(),
            row.due,
            row.delivered,
            row.duplicates,
            row.bound,
            row.lost,
            row.reordered,
            row.invented,
            row.torn
        );
    }
    let letters = &report.letters;
    println!(
        "{:<13} {:>9} {:>9} {:>10} {:>7} {:>6} {:>12} {:>8}\n",
        "dead letters", letters.due, letters.found, letters.duplicates, letters.bound, letters.lost, "-", letters.wrong
    );
    let digests = &report.digests;
    println!(
        "digests: {}, {} of them full; {} came again, of at most {} of unknown ends, {} with other events; duplicates \
         are events in a second digest\n",
        digests.digests, digests.full, digests.repeats, digests.bound, digests.changed
    );
    let alerts = &report.alerts;
    println!(
        "alerts: {} due, {} raised, {} resolved, {} lost, {} wrong; {} raised again, of at most {}; {} duplicates of at \
         most {}; {} requests are known to have ended in time\n",
        alerts.due,
        alerts.raised,
        alerts.resolved,
        alerts.lost,
        alerts.false_alarms,
        alerts.again,
        alerts.most_again,
        alerts.duplicates,
        alerts.bound,
        alerts.in_time
    );
    println!(
        "dead letters beside those that messages were made for: {} of at most {} by a webhook that refused everything, \
         {} of unreadable rows; all that were refused were redriven\n",
        letters.blamed, letters.most_blamed, letters.damaged
    );
}
