//! Unpredictable numbers on the hot path: fetched from the kernel many at a time.

pub(crate) struct Random {
    octets: [u8; 1_024],
    used: usize,
}

impl Random {
    pub fn new() -> Self {
        Self { octets: [0; 1_024], used: 1_024 }
    }

    pub fn take<const N: usize>(&mut self) -> Result<[u8; N], getrandom::Error> {
        if self.used + N > self.octets.len() {
            getrandom::fill(&mut self.octets)?;
            self.used = 0;
        }
        let mut taken = [0; N];
        // Not left lying about: what was an id once must not be read later.
        taken.copy_from_slice(&self.octets[self.used..self.used + N]);
        self.octets[self.used..self.used + N].fill(0);
        self.used += N;
        Ok(taken)
    }
}
