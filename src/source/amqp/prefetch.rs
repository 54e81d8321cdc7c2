//! The number of messages that may be unacknowledged at once: few at first, more while their bodies are small.
//!
//! lapin assembles a whole body before anyone sees it, so the prefetch is the only bound on the memory of bodies.

/// The prefetch of a new session.
const INITIAL: u16 = 16;
/// The messages of one period: the largest body is that of the present period and the one before.
const PERIOD: u32 = 1_000;

/// The size of the largest recent body.
#[derive(Debug, Default)]
pub struct LargestBody {
    present: usize,
    past: usize,
    seen: u32,
}

impl LargestBody {
    pub fn record(&mut self, bytes: usize) {
        if self.seen == PERIOD {
            self.past = std::mem::take(&mut self.present);
            self.seen = 0;
        }
        self.seen += 1;
        self.present = self.present.max(bytes);
    }

    fn bytes(&self) -> u64 {
        self.present.max(self.past) as u64
    }
}

/// The prefetch that suits the messages so far.
#[derive(Debug)]
pub struct Prefetch {
    current: u16,
    max: u16,
    received: u32,
}

impl Prefetch {
    pub fn new(max: u16, largest: &LargestBody, max_bytes: u64) -> Self {
        let mut prefetch = Self { current: INITIAL.min(max), max, received: 0 };
        prefetch.current = prefetch.current.min(prefetch.bound(largest, max_bytes));
        prefetch
    }

    pub fn get(&self) -> u16 {
        self.current
    }

    /// Counts a message. The prefetch doubles after as many messages as it allows, and falls where the largest body no longer fits.
    pub fn on_message(&mut self, largest: &LargestBody, max_bytes: u64) {
        self.received = self.received.saturating_add(1);
        let bound = self.bound(largest, max_bytes);
        if self.current > bound || self.received >= u32::from(self.current) {
            self.current = self.current.saturating_mul(2).min(bound);
            self.received = 0;
        }
    }

    /// A power of two below `max`, so that bodies that grow little by little lower the prefetch only a few times.
    fn bound(&self, largest: &LargestBody, max_bytes: u64) -> u16 {
        let fitting = max_bytes / largest.bytes().max(1);
        let fitting = u16::try_from(fitting).unwrap_or(u16::MAX).max(1);
        if fitting >= self.max { self.max.max(1) } else { 1 << fitting.ilog2() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn after(prefetch: &mut Prefetch, largest: &mut LargestBody, messages: usize, bytes: usize) -> u16 {
        for _ in 0..messages {
            largest.record(bytes);
            prefetch.on_message(largest, 64 * MIB);
        }
        prefetch.get()
    }

    #[test]
    fn small_bodies_double_the_prefetch_up_to_its_maximum() {
        let mut largest = LargestBody::default();
        let mut prefetch = Prefetch::new(1000, &largest, 64 * MIB);
        assert_eq!(prefetch.get(), 16);
        assert_eq!(after(&mut prefetch, &mut largest, 15, 300), 16);
        assert_eq!(after(&mut prefetch, &mut largest, 1, 300), 32);
        assert_eq!(after(&mut prefetch, &mut largest, 2000, 300), 1000);
    }

    #[test]
    fn a_large_body_lowers_the_prefetch_and_small_ones_raise_it_again() {
        let mut largest = LargestBody::default();
        let mut prefetch = Prefetch::new(1000, &largest, 64 * MIB);
        after(&mut prefetch, &mut largest, 3000, 300);
        assert_eq!(after(&mut prefetch, &mut largest, 1, 4 * 1024 * 1024), 16);
        assert_eq!(after(&mut prefetch, &mut largest, 5000, 300), 1000);
    }

    #[test]
    fn bodies_that_grow_little_by_little_lower_the_prefetch_a_few_times() {
        let mut largest = LargestBody::default();
        let mut prefetch = Prefetch::new(1000, &largest, 64 * MIB);
        let limits: Vec<u16> = (1..16_000).map(|kib| after(&mut prefetch, &mut largest, 1, kib * 1024)).collect();
        let cuts = limits.windows(2).filter(|pair| pair[1] < pair[0]).count();
        assert!(cuts <= 10, "{cuts}");
    }

    #[test]
    fn the_prefetch_is_never_zero() {
        let mut largest = LargestBody::default();
        largest.record(usize::MAX);
        assert_eq!(Prefetch::new(1000, &largest, MIB).get(), 1);
    }
}
