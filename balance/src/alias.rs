//! Vose's alias method: one of many by weight in constant time.

/// Column `i` gives `i` up to its threshold, else its alias.
#[derive(Debug)]
pub(crate) struct Alias {
    columns: Box<[(f64, usize)]>,
}

// === impl Alias ===

impl Alias {
    pub(crate) fn new(weights: &[f64]) -> Self {
        let mean = weights.iter().sum::<f64>() / weights.len() as f64;
        let mut share: Vec<f64> = weights.iter().map(|weight| weight / mean).collect();
        let mut columns: Vec<(f64, usize)> = (0..weights.len()).map(|index| (1.0, index)).collect();
        let (mut small, mut large): (Vec<_>, Vec<_>) =
            (0..weights.len()).partition(|index| share[*index] < 1.0);
        while let (Some(short), Some(long)) = (small.pop(), large.last().copied()) {
            columns[short] = (share[short], long);
            share[long] -= 1.0 - share[short];
            if share[long] < 1.0 {
                large.pop();
                small.push(long);
            }
        }
        Self {
            columns: columns.into(),
        }
    }

    pub(crate) fn draw(&self, random: &mut fastrand::Rng) -> usize {
        let index = random.usize(..self.columns.len());
        let (threshold, alias) = self.columns[index];
        if random.f64() < threshold {
            index
        } else {
            alias
        }
    }
}
