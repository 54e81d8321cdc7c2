//! A configuration with one source and one route. Most tests begin with it and write only the part that they test.

/// One source `regards` that takes `${QUEUE}` of `${REGARDS}`, the sinks, a route `all` to each of them, dead letters for the rest; then the
/// lines that follow. A constant, so that a test can change a word of it.
macro_rules! configuration {
    ($(queue: $queue:literal,)? sinks: { $($name:ident: $sink:literal),+ $(,)? } $(, $line:literal)* $(,)?) => {
        concat!(
            "version: 1\nsources: { regards: { amqp: { url: \"${REGARDS}\", queue: \"${QUEUE}\"", $(", ", $queue,)?
            " }, expects: lta } }\nsinks:\n", $("  ", stringify!($name), ": ", $sink, "\n",)+
            "routes: [{ name: all, to: ", configuration!(@to $($name)+),
            " }]\nunrouted: dead_letter\n", $($line, "\n",)*
        )
    };
    (@to $name:ident) => { stringify!($name) };
    (@to $first:ident $($name:ident)+) => { concat!("[", stringify!($first), $(", ", stringify!($name),)+ "]") };
}
