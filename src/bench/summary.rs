//! Statistics of a run: medians, spreads, ratios to the Linux bridge, and figures that are too noisy.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::cpu::precise;
use super::metric::{Better, Metric, Unit};
use super::results::{BASELINE, Results, SUBJECT, Sample};

/// Spread, as a share of the median, above which a figure is noisy: the machine was busy with other work.
pub const NOISE_LIMIT: f64 = 0.15;

/// CPUs with a distance above this multiple of the shortest distance were moved by the hypervisor.
pub const MOVED_FACTOR: f64 = 2.0;

/// Statistics of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The peer that ratios refer to. `None` if it was not measured.
    pub baseline: Option<&'static str>,
    /// Peers with samples: the subject, the baseline, then the others in the requested order.
    pub peers: Vec<String>,
    /// One row for each metric, in the order of [`Metric`].
    pub rows: Vec<SummaryRow>,
    /// Remarks for the reader, one sentence each.
    pub remarks: Vec<String>,
}

/// One metric of all peers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SummaryRow {
    /// The metric.
    pub metric: Metric,
    /// Unit of all values except ratios.
    pub unit: Unit,
    /// Which direction is better.
    pub better: Better,
    /// At most one cell for each peer, in the order of [`Summary::peers`].
    pub cells: Vec<SummaryCell>,
}

/// One metric of one peer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SummaryCell {
    /// The peer.
    pub peer: String,
    /// Number of samples.
    pub samples: usize,
    /// Median, minimum and maximum.
    #[serde(flatten)]
    pub range: Range,
    /// [`Range::spread`], if there are two samples or more. `None` for [`Unit::Percent`], where it would be
    /// a percentage of a percentage.
    pub spread: Option<f64>,
    /// The spread is above [`NOISE_LIMIT`].
    pub noisy: bool,
    /// Comparison with the baseline.
    pub ratio: Option<Ratio>,
}

/// Median, minimum and maximum of some values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Range {
    /// The median.
    pub median: f64,
    /// The minimum.
    pub min: f64,
    /// The maximum.
    pub max: f64,
}

/// Comparison of a peer with the baseline.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ratio {
    /// Ratio of the medians.
    pub of_medians: f64,
    /// Ratios within each repetition that has both values. They exclude changes of the machine between
    /// repetitions.
    pub paired: Option<Range>,
    /// Ratio of the medians of samples from near CPUs. `None` unless the CPUs were moved
    /// ([`MOVED_FACTOR`]).
    pub near: Option<f64>,
    /// The conclusion.
    pub verdict: Comparison,
}

/// Conclusion of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Comparison {
    /// Better than the baseline in every repetition.
    Better,
    /// Worse than the baseline in every repetition.
    Worse,
    /// The repetitions do not agree.
    Alike,
    /// The figure of the peer or of the baseline is noisy.
    TooNoisy,
    /// There is only one repetition.
    OneSample,
}

impl Summary {
    /// Computes the statistics of all samples.
    pub fn new(results: &Results) -> Summary {
        let distances = CpuDistances::new(results);
        let values = SampleIndex::new(results, |_| true);
        let near = distances.as_ref().map(|distances| distances.near_values(results));
        let peers = values.peers(results);
        let metrics: BTreeSet<&Metric> = results.samples.iter().map(|sample| &sample.metric).collect();
        let rows: Vec<SummaryRow> =
            metrics.into_iter().map(|metric| values.row(metric, &peers, near.as_ref())).collect();
        let baseline = peers.iter().any(|peer| peer == BASELINE).then_some(BASELINE);
        let mut remarks = remarks(&rows, baseline);
        remarks.extend(distances.into_iter().flat_map(CpuDistances::remarks));
        Summary { baseline, peers, rows, remarks }
    }
}

impl SummaryRow {
    /// The cell of `peer`.
    pub fn cell(&self, peer: &str) -> Option<&SummaryCell> {
        self.cells.iter().find(|cell| cell.peer == peer)
    }
}

impl Range {
    /// `None` without finite values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Range> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let below = values.get((values.len() - 1) / 2)?;
        let above = values.get(values.len() / 2)?;
        Some(Range { median: f64::midpoint(*below, *above), min, max })
    }

    /// Maximum minus minimum, as a share of the median. `None` if the median is 0.
    pub fn spread(&self) -> Option<f64> {
        (self.median != 0.0).then(|| (self.max - self.min) / self.median.abs())
    }
}

/// Distances between CPUs that were moved, in nanoseconds.
struct CpuDistances {
    least: f64,
    greatest: f64,
    /// Share of the samples taken while the CPUs were far apart.
    share_far: f64,
}

impl CpuDistances {
    /// `None` if the CPUs were not moved. Without a hypervisor they never are, and differences come from
    /// the clock rate.
    fn new(results: &Results) -> Option<CpuDistances> {
        results.machine.virtualised.as_ref()?;
        let all: Vec<f64> = results.samples.iter().filter_map(|sample| sample.cpu_distance_ns).collect();
        let Range { min: least, max: greatest, .. } = Range::of(all.iter().copied())?;
        let far = all.iter().filter(|&&ns| !is_near(ns, least)).count();
        let share_far = precise(far as u64) / precise(all.len() as u64);
        (far > 0).then_some(CpuDistances { least, greatest, share_far })
    }

    fn near_values<'a>(&self, results: &'a Results) -> SampleIndex<'a> {
        let near = |sample: &Sample| sample.cpu_distance_ns.is_some_and(|ns| is_near(ns, self.least));
        SampleIndex::new(results, near)
    }

    fn remarks(self) -> [String; 2] {
        let CpuDistances { least, greatest, share_far } = self;
        let share = share_far * 100.0;
        [
            format!(
                "The hypervisor moved the CPUs ({least:.0} to {greatest:.0} ns apart, over {MOVED_FACTOR} times the minimum \
 for {share:.0}% of the samples)."
            ),
            "This slows down a switch with its own thread. `near` (report.md, --json) is the ratio of the other samples."
                .to_owned(),
        ]
    }
}

fn is_near(ns: f64, least: f64) -> bool {
    ns <= least * MOVED_FACTOR
}

/// Samples by metric, peer and repetition.
struct SampleIndex<'a>(BTreeMap<(&'a Metric, &'a str), BTreeMap<u32, f64>>);

impl<'a> SampleIndex<'a> {
    fn new(results: &'a Results, taken: impl Fn(&Sample) -> bool) -> SampleIndex<'a> {
        let mut values: BTreeMap<_, BTreeMap<u32, f64>> = BTreeMap::new();
        for sample in results.samples.iter().filter(|sample| taken(sample) && sample.value.is_finite()) {
            let of_peer = values.entry((&sample.metric, sample.peer.as_str())).or_default();
            of_peer.insert(sample.repetition, sample.value);
        }
        SampleIndex(values)
    }

    /// Peers with samples, the subject and the baseline first.
    fn peers(&self, results: &Results) -> Vec<String> {
        let measured: BTreeSet<&str> = self.0.keys().map(|(_, peer)| *peer).collect();
        let requested = results.peers.iter().map(|peer| peer.name.as_str());
        let mut peers: Vec<&str> = requested.filter(|peer| measured.contains(peer)).collect();
        peers.sort_by_key(|peer| (*peer != SUBJECT, *peer != BASELINE));
        peers.into_iter().map(str::to_owned).collect()
    }

    /// `near`: only the samples of near CPUs, if the CPUs were moved.
    fn row(&self, metric: &'a Metric, peers: &'a [String], near: Option<&SampleIndex<'a>>) -> SummaryRow {
        let cells = peers.iter().filter_map(|peer| self.cell(metric, peer, near)).collect();
        SummaryRow { metric: metric.clone(), unit: metric.unit(), better: metric.better(), cells }
    }

    fn cell(&self, metric: &'a Metric, peer: &'a str, near: Option<&SampleIndex<'a>>) -> Option<SummaryCell> {
        let values = self.0.get(&(metric, peer))?;
        let range = Range::of(values.values().copied())?;
        let has_spread = values.len() > 1 && metric.unit() != Unit::Percent;
        let spread = if has_spread { range.spread() } else { None };
        let noisy = spread.is_some_and(|spread| spread > NOISE_LIMIT);
        let base = if peer == BASELINE { None } else { self.cell(metric, BASELINE, None) };
        let ratio = base.and_then(|base| {
            let of_medians = self.ratio_of_medians(metric, peer)?;
            let paired = self.paired(metric, values);
            let verdict = match paired {
                _ if noisy || base.noisy => Comparison::TooNoisy,
                Some(paired) if values.len() > 1 && base.samples > 1 => verdict(paired, metric.better()),
                _ => Comparison::OneSample,
            };
            let near = near.and_then(|near| near.ratio_of_medians(metric, peer));
            Some(Ratio { of_medians, paired, near, verdict })
        });
        Some(SummaryCell { peer: peer.to_owned(), samples: values.len(), range, spread, noisy, ratio })
    }

    fn ratio_of_medians(&self, metric: &'a Metric, peer: &'a str) -> Option<f64> {
        let median = |peer| Some(Range::of(self.0.get(&(metric, peer))?.values().copied())?.median);
        ratio_to(metric, median(peer)?, median(BASELINE)?)
    }

    fn paired(&self, metric: &'a Metric, values: &BTreeMap<u32, f64>) -> Option<Range> {
        let base = self.0.get(&(metric, BASELINE))?;
        let pairs = values.iter().filter_map(|(repetition, value)| Some((*value, *base.get(repetition)?)));
        Range::of(pairs.filter_map(|(value, base)| ratio_to(metric, value, base)))
    }
}

fn ratio_to(metric: &Metric, value: f64, base: f64) -> Option<f64> {
    (metric.has_ratio() && base > 0.0).then(|| value / base)
}

fn verdict(paired: Range, better: Better) -> Comparison {
    let (ahead, behind) = match better {
        Better::Higher => (paired.min > 1.0, paired.max < 1.0),
        Better::Lower => (paired.max < 1.0, paired.min > 1.0),
    };
    match (ahead, behind) {
        (true, _) => Comparison::Better,
        (_, true) => Comparison::Worse,
        _ => Comparison::Alike,
    }
}

fn remarks(rows: &[SummaryRow], baseline: Option<&str>) -> Vec<String> {
    let mut remarks = Vec::new();
    let cells = || rows.iter().flat_map(|row| &row.cells);
    let noisy = cells().filter(|cell| cell.noisy).count();
    if noisy > 0 {
        remarks.push(format!(
            "{noisy} of {} figures are too noisy (~): their spread is more than {:.0}% of the median.",
            cells().count(),
            NOISE_LIMIT * 100.0
        ));
    }
    if cells().any(|cell| cell.samples == 1) {
        remarks.push("Figures without brackets come from one repetition, so their spread is unknown.".into());
    }
    if baseline.is_none() {
        remarks.push(format!("There are no ratios, because {BASELINE} was not measured."));
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::results::fixture;

    fn range(values: &[f64]) -> Option<[f64; 3]> {
        Range::of(values.iter().copied()).map(|range| [range.median, range.min, range.max])
    }

    /// A summary of these peers and their values of one metric, one value for each repetition.
    fn summary(metric: &str, peers: &[(&str, &[f64])]) -> Summary {
        let mut results = fixture::empty(peers.iter().map(|(peer, _)| *peer));
        for (peer, values) in peers {
            let numbered = (1..).zip(values.iter());
            let metric: Metric = metric.parse().unwrap();
            results.samples.extend(numbered.filter_map(|(i, &v)| Sample::new(i, peer, metric.clone(), v)));
        }
        Summary::new(&results)
    }

    /// The verdict on `uswitch`.
    fn verdict_of(metric: &str, subject: &[f64], bridge: &[f64]) -> Comparison {
        let summary = summary(metric, &[(SUBJECT, subject), (BASELINE, bridge)]);
        summary.rows[0].cell(SUBJECT).unwrap().ratio.as_ref().unwrap().verdict
    }

    #[test]
    fn computes_median_and_range() {
        assert_eq!(range(&[]), None);
        assert_eq!(range(&[f64::NAN]), None);
        assert_eq!(range(&[3.0]), Some([3.0, 3.0, 3.0]));
        assert_eq!(range(&[4.0, 2.0]), Some([3.0, 2.0, 4.0]));
        assert_eq!(range(&[9.0, 1.0, 5.0]), Some([5.0, 1.0, 9.0]));
        assert_eq!(range(&[1.0, 2.0, 3.0, 10.0]), Some([2.5, 1.0, 10.0]));
    }

    #[test]
    fn empty_results_have_empty_summary() {
        let summary = Summary::new(&fixture::empty([SUBJECT, BASELINE]));
        assert_eq!((summary.rows, summary.peers), (vec![], vec![]));
    }

    #[test]
    fn marks_spread_above_limit_as_noisy() {
        let summary = summary("tcp.cubic", &[("a", &[92.5, 100.0, 107.5]), ("b", &[92.5, 100.0, 107.6])]);
        let noisy = |peer: &str| summary.rows[0].cell(peer).unwrap().noisy;
        assert_eq!((noisy("a"), noisy("b")), (false, true));
        assert!(summary.remarks[0].contains("1 of 2 figures"), "{:?}", summary.remarks);
    }

    #[test]
    fn one_sample_has_no_spread_and_no_verdict() {
        let summary = summary("udp", &[(SUBJECT, &[2.0]), (BASELINE, &[1.0])]);
        let cell = summary.rows[0].cell(SUBJECT).unwrap();
        assert_eq!((cell.spread, cell.noisy), (None, false));
        let ratio = cell.ratio.as_ref().unwrap();
        assert_eq!((ratio.of_medians, ratio.verdict), (2.0, Comparison::OneSample));
        assert!(summary.remarks[0].contains("one repetition"));
    }

    #[test]
    fn pairs_values_of_same_repetition() {
        let summary = summary("udp", &[(SUBJECT, &[2.0, 3.0, 4.0]), (BASELINE, &[1.0, 2.0, 4.0])]);
        let ratio = summary.rows[0].cell(SUBJECT).unwrap().ratio.clone().unwrap();
        assert_eq!(ratio.of_medians, 1.5);
        assert_eq!(ratio.paired, Some(Range { median: 1.5, min: 1.0, max: 2.0 }));
        assert_eq!(summary.rows[0].cell(BASELINE).unwrap().ratio, None);
    }

    #[test]
    fn verdict_needs_every_repetition() {
        let bridge = [100.0, 101.0, 102.0];
        assert_eq!(verdict_of("udp", &[105.0, 106.0, 107.0], &bridge), Comparison::Better);
        assert_eq!(verdict_of("udp", &[95.0, 96.0, 97.0], &bridge), Comparison::Worse);
        assert_eq!(verdict_of("udp", &[95.0, 102.0, 103.0], &bridge), Comparison::Alike);
        assert_eq!(verdict_of("udp", &[105.0, 106.0, 170.0], &bridge), Comparison::TooNoisy);
        assert_eq!(verdict_of("udp", &[205.0, 206.0, 207.0], &[100.0, 100.0, 150.0]), Comparison::TooNoisy);
        assert_eq!(verdict_of("rtt.p50", &[95.0, 96.0, 97.0], &bridge), Comparison::Better);
        assert_eq!(verdict_of("rtt.p50", &[105.0, 106.0, 107.0], &bridge), Comparison::Worse);
    }

    #[test]
    fn loss_and_zero_have_no_ratio() {
        let loss = summary("udp.loss", &[(SUBJECT, &[0.0, 3.0]), (BASELINE, &[1.0, 1.0])]);
        let cell = loss.rows[0].cell(SUBJECT).unwrap();
        assert_eq!((cell.spread, cell.noisy, &cell.ratio), (None, false, &None));
        let dead = summary("udp", &[(SUBJECT, &[1.0, 1.0]), (BASELINE, &[0.0, 0.0])]);
        assert_eq!(dead.rows[0].cell(SUBJECT).unwrap().ratio, None);
        assert_eq!(dead.rows[0].cell(BASELINE).unwrap().spread, None);
    }

    #[test]
    fn orders_subject_then_baseline() {
        let one: &[f64] = &[1.0];
        let summary = summary("udp", &[("vde", one), (BASELINE, one), ("ovs", one), (SUBJECT, one)]);
        assert_eq!(summary.peers, [SUBJECT, BASELINE, "vde", "ovs"]);
    }

    /// A summary of repetitions: our value, the bridge's value, and the distance between the CPUs for both.
    fn apart(virtualised: bool, repetitions: &[(f64, f64, Option<f64>)]) -> Summary {
        let mut results = fixture::empty([SUBJECT, BASELINE]);
        results.machine.virtualised = virtualised.then(|| "kvm".to_owned());
        for (repetition, (subject, bridge, ns)) in (1..).zip(repetitions) {
            for (peer, value) in [(SUBJECT, subject), (BASELINE, bridge)] {
                let sample = Sample::new(repetition, peer, Metric::Udp, *value);
                results.samples.extend(sample.map(|sample| Sample { cpu_distance_ns: *ns, ..sample }));
            }
        }
        Summary::new(&results)
    }

    fn near(summary: &Summary) -> Option<f64> {
        summary.rows[0].cell(SUBJECT).unwrap().ratio.as_ref().unwrap().near
    }

    #[test]
    fn reports_moved_cpus_and_ratio_of_near_samples() {
        let repetitions = [(1.5, 1.0, Some(25.0)), (1.7, 1.0, Some(50.0)), (0.5, 1.0, Some(150.4))];
        let summary = apart(true, &repetitions);
        assert_eq!(near(&summary), Some(1.6));
        assert_eq!(summary.rows[0].cell(SUBJECT).unwrap().ratio.as_ref().unwrap().of_medians, 1.5);
        let remark = &summary.remarks[summary.remarks.len() - 2];
        assert!(remark.contains("25 to 150 ns") && remark.contains("for 33% of the samples"), "{remark}");
    }

    #[test]
    fn reports_no_moved_cpus_if_distance_is_stable() {
        for (virtualised, ns) in [(true, Some(50.0)), (true, None), (false, Some(150.0))] {
            let summary = apart(virtualised, &[(1.0, 1.0, ns.map(|_| 25.0)), (1.0, 1.0, ns)]);
            assert_eq!((near(&summary), summary.remarks), (None, vec![]));
        }
    }

    #[test]
    fn near_ratio_needs_near_baseline() {
        let mut results = fixture::empty([SUBJECT, BASELINE]);
        results.machine.virtualised = Some("kvm".to_owned());
        for (peer, ns) in [(SUBJECT, 25.0), (BASELINE, 150.0)] {
            let sample = Sample::new(1, peer, Metric::Udp, 1.0);
            results.samples.extend(sample.map(|sample| Sample { cpu_distance_ns: Some(ns), ..sample }));
        }
        assert_eq!(near(&Summary::new(&results)), None);
    }

    #[test]
    fn without_baseline_there_is_no_ratio() {
        let summary = summary("udp", &[(SUBJECT, &[1.0, 1.0]), ("vde", &[1.0, 1.0])]);
        assert_eq!(summary.baseline, None);
        assert!(summary.rows[0].cells.iter().all(|cell| cell.ratio.is_none()));
        assert_eq!(summary.remarks, ["There are no ratios, because linux-bridge was not measured."]);
    }
}
