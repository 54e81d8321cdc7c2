//! A configuration with one source and one route. Most tests begin with it and write only the part that they test.

/// A configuration with one source `regards`, which consumes `${QUEUE}` on `${REGARDS}`, the given sinks, and a route
/// `all` to every sink. Unrouted messages become dead letters. The given lines follow. The macro expands to a constant,
/// so tests can replace parts of the text.
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
