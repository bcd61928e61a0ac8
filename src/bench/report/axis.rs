//! Maps values to positions in a drawing.

/// Ticks are these values times powers of ten.
const STEPS: [f64; 3] = [1.0, 2.0, 5.0];

/// A linear axis from 0.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Linear {
    /// Round values, ascending, from 0 to at least the largest value.
    pub(super) ticks: Vec<f64>,
}

impl Linear {
    /// An axis for values up to `max`, with at most `most` steps.
    pub(super) fn up_to(max: f64, most: u32) -> Linear {
        let max = if max > 0.0 { max } else { 1.0 };
        let power = 10_f64.powf((max / f64::from(most)).log10().floor());
        let steps = STEPS.into_iter().chain([10.0]).map(|step| step * power);
        let step = steps.clone().find(|step| step * f64::from(most) >= max).unwrap_or(max);
        let count = (1..most).find(|&count| step * f64::from(count) >= max).unwrap_or(most);
        Linear { ticks: (0..=count).map(|i| step * f64::from(i)).collect() }
    }

    /// Position of `value` as a share of the axis.
    pub(super) fn share(&self, value: f64) -> f64 {
        self.ticks.last().map_or(0.0, |last| value / last)
    }
}

/// A logarithmic axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Logarithmic {
    /// Values of the series 1, 2, 5, 10, ascending, that enclose all values.
    pub(super) ticks: Vec<f64>,
}

impl Logarithmic {
    /// An axis for values between `min` and `max`. Values at or below 0 count as the smallest positive
    /// value.
    pub(super) fn over(min: f64, max: f64) -> Logarithmic {
        let (min, max) = (min.max(0.01), max.max(0.02));
        let series: Vec<f64> =
            (-2..12).flat_map(|power| STEPS.map(|step| step * 10_f64.powi(power))).collect();
        let first = series.iter().rposition(|tick| *tick <= min).unwrap_or(0);
        let last = series.iter().position(|tick| *tick >= max).unwrap_or(series.len() - 1);
        Logarithmic { ticks: series[first..=last.max(first + 1)].to_vec() }
    }

    /// Position of `value` as a share of the axis, from 0 to 1.
    pub(super) fn share(&self, value: f64) -> f64 {
        let (Some(first), Some(last)) = (self.ticks.first(), self.ticks.last()) else { return 0.0 };
        ((value / first).ln() / (last / first).ln()).clamp(0.0, 1.0)
    }
}

/// Moves `places` as little as possible so that neighbours are `gap` apart, between `low` and `high` if
/// there is room. They are ascending before and after.
pub(super) fn keep_apart(places: &mut [f64], gap: f64, (low, high): (f64, f64)) {
    let mut least = low;
    for place in places.iter_mut() {
        *place = place.max(least);
        least = *place + gap;
    }
    let mut most = high;
    for place in places.iter_mut().rev() {
        *place = place.min(most);
        most = *place - gap;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_ticks_cover_maximum() {
        assert_eq!(Linear::up_to(38.1, 4).ticks, [0.0, 10.0, 20.0, 30.0, 40.0]);
        assert_eq!(Linear::up_to(40.0, 4).ticks, [0.0, 10.0, 20.0, 30.0, 40.0]);
        assert_eq!(Linear::up_to(897.0, 4).ticks, [0.0, 500.0, 1000.0]);
        assert_eq!(Linear::up_to(0.0, 4).ticks, [0.0, 0.5, 1.0]);
        assert!(Linear::up_to(0.031, 4).share(0.031) <= 1.0);
    }

    #[test]
    fn logarithmic_ticks_cover_all_values() {
        assert_eq!(Logarithmic::over(7.0, 150.0).ticks, [5.0, 10.0, 20.0, 50.0, 100.0, 200.0]);
        assert_eq!(Logarithmic::over(5.0, 5.0).ticks, [5.0, 10.0]);
        assert!(Logarithmic::over(0.0, 0.0).ticks.len() > 1);
        assert_eq!(Logarithmic::over(10.0, 1000.0).share(100.0), 0.5);
    }

    #[test]
    fn separates_labels_within_bounds() {
        let apart = |mut places: Vec<f64>| {
            keep_apart(&mut places, 10.0, (0.0, 100.0));
            places
        };
        assert_eq!(apart(vec![20.0, 50.0]), [20.0, 50.0]);
        assert_eq!(apart(vec![20.0, 22.0, 50.0]), [20.0, 30.0, 50.0]);
        assert_eq!(apart(vec![97.0, 98.0, 99.0]), [80.0, 90.0, 100.0]);
        assert!(apart(Vec::new()).is_empty());
    }
}
