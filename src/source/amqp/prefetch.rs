//! How many messages may be unacknowledged at once: few at first, more while their bodies are small.
//!
//! lapin assembles whole bodies before anyone sees them, so the prefetch is the only bound on their memory.

/// The prefetch of a new session.
const FIRST: u16 = 16;
/// How many messages one period has, over which the largest body is taken.
const PERIOD: u32 = 1_000;

/// The largest recent body: of this period and the one before.
#[derive(Debug, Default)]
pub struct Largest {
    present: usize,
    past: usize,
    seen: u32,
}

impl Largest {
    /// One more body.
    pub fn see(&mut self, bytes: usize) {
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

/// The prefetch of one channel.
#[derive(Debug)]
pub struct Prefetch {
    current: u16,
    most: u16,
    received: u32,
}

impl Prefetch {
    /// The prefetch of a new session, where at most `most` are allowed.
    pub fn new(most: u16, largest: &Largest, max_bytes: u64) -> Self {
        let mut prefetch = Self { current: FIRST.min(most), most, received: 0 };
        prefetch.current = prefetch.current.min(prefetch.bound(largest, max_bytes));
        prefetch
    }

    /// What it is now.
    pub fn get(&self) -> u16 {
        self.current
    }

    /// One more message came: doubled once as many messages as it allows have come, cut where the largest body no longer fits.
    pub fn next(&mut self, largest: &Largest, max_bytes: u64) {
        self.received = self.received.saturating_add(1);
        let bound = self.bound(largest, max_bytes);
        if self.current > bound || self.received >= u32::from(self.current) {
            self.current = self.current.saturating_mul(2).min(bound);
            self.received = 0;
        }
    }

    /// In powers of two below `most`: bodies that grow little by little cut it few times.
    fn bound(&self, largest: &Largest, max_bytes: u64) -> u16 {
        let fitting = max_bytes / largest.bytes().max(1);
        let fitting = u16::try_from(fitting).unwrap_or(u16::MAX).max(1);
        if fitting >= self.most { self.most.max(1) } else { 1 << fitting.ilog2() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn after(prefetch: &mut Prefetch, largest: &mut Largest, messages: usize, bytes: usize) -> u16 {
        for _ in 0..messages {
            largest.see(bytes);
            prefetch.next(largest, 64 * MIB);
        }
        prefetch.get()
    }

    #[test]
    fn small_bodies_double_it_up_to_the_most() {
        let mut largest = Largest::default();
        let mut prefetch = Prefetch::new(1000, &largest, 64 * MIB);
        assert_eq!(prefetch.get(), 16);
        assert_eq!(after(&mut prefetch, &mut largest, 15, 300), 16);
        assert_eq!(after(&mut prefetch, &mut largest, 1, 300), 32);
        assert_eq!(after(&mut prefetch, &mut largest, 2000, 300), 1000);
    }

    #[test]
    fn a_large_body_cuts_it_and_small_ones_bring_it_back() {
        let mut largest = Largest::default();
        let mut prefetch = Prefetch::new(1000, &largest, 64 * MIB);
        after(&mut prefetch, &mut largest, 3000, 300);
        assert_eq!(after(&mut prefetch, &mut largest, 1, 4 * 1024 * 1024), 16);
        assert_eq!(after(&mut prefetch, &mut largest, 5000, 300), 1000);
    }

    #[test]
    fn bodies_that_grow_little_by_little_cut_it_few_times() {
        let mut largest = Largest::default();
        let mut prefetch = Prefetch::new(1000, &largest, 64 * MIB);
        let limits: Vec<u16> = (1..16_000).map(|kib| after(&mut prefetch, &mut largest, 1, kib * 1024)).collect();
        let cuts = limits.windows(2).filter(|pair| pair[1] < pair[0]).count();
        assert!(cuts <= 10, "{cuts}");
    }

    #[test]
    fn it_is_never_zero() {
        let mut largest = Largest::default();
        largest.see(usize::MAX);
        assert_eq!(Prefetch::new(1000, &largest, MIB).get(), 1);
    }
}
