// SPDX-License-Identifier: GPL-2.0

//! Medians and the check that the machines stood still while they were measured.

use serde::Serialize;

/// Median and 99th percentile. What a benchmark reports for one side.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Pair {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Pair {
    /// The median block by either percentile: one disturbed block changes neither.
    pub(crate) fn of_blocks(blocks: &[Self]) -> Option<Self> {
        let p50 = median(blocks.iter().map(|b| b.p50).collect())?;
        let p99 = median(blocks.iter().map(|b| b.p99).collect())?;
        Some(Self { p50, p99 })
    }

    /// Of single samples.
    pub(crate) fn of_samples(samples: &[f64]) -> Option<Self> {
        let mut s = samples.to_vec();
        s.sort_by(f64::total_cmp);
        Some(Self {
            p50: median(s.clone())?,
            p99: *s.get((s.len() * 99 / 100).min(s.len().checked_sub(1)?))?,
        })
    }

    /// With every figure divided by `n`.
    pub(crate) fn scaled(self, n: f64) -> Self {
        Self {
            p50: self.p50 / n,
            p99: self.p99 / n,
        }
    }
}

/// The middle one, or the mean of the two in the middle; `None` of nothing.
pub(crate) fn median(mut v: Vec<f64>) -> Option<f64> {
    v.sort_by(f64::total_cmp);
    let mid = v.len() / 2;
    let upper = *v.get(mid)?;
    Some(if v.len() % 2 == 1 {
        upper
    } else {
        (upper + *v.get(mid - 1)?) / 2.0
    })
}

/// Most that the raw round trip may differ between the first and the last block.
pub(crate) const MAX_DRIFT: f64 = 0.10;

/// # Errors
/// The machines changed: what was measured in between cannot be compared.
pub(crate) fn check_drift(first: f64, last: f64) -> Result<(), String> {
    let drift = (last - first).abs() / first.min(last);
    if drift.is_finite() && drift <= MAX_DRIFT {
        return Ok(());
    }
    Err(format!(
        "refused: the raw round trip was {:.1} us before and {:.1} us after, {:.0} % apart (at most {:.0} %); \
         run it again on a quiet machine",
        first / 1e3,
        last / 1e3,
        drift * 100.0,
        MAX_DRIFT * 100.0
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        for (v, want) in [
            (vec![], None),
            (vec![3.0], Some(3.0)),
            (vec![4.0, 1.0], Some(2.5)),
            (vec![9.0, 1.0, 2.0], Some(2.0)),
            (vec![1.0, 1.0, 1.0, 1.0, 1e9], Some(1.0)),
        ] {
            assert_eq!(median(v.clone()), want, "{v:?}");
        }
        assert_eq!(Pair::of_samples(&[1.0]), Some(Pair { p50: 1.0, p99: 1.0 }));
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(Pair::of_samples(&hundred), Some(Pair { p50: 50.5, p99: 100.0 }));
        assert_eq!(Pair::of_samples(&[]), None);
    }

    #[test]
    fn drift_is_refused() {
        assert!(check_drift(200.0, 219.9).is_ok());
        assert!(check_drift(219.9, 200.0).is_ok());
        assert!(check_drift(200.0, 221.0).is_err());
        assert!(check_drift(0.0, 0.0).is_err());
        assert!(check_drift(f64::NAN, 1.0).is_err());
    }
}
