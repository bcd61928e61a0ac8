//! One switch's turn, in a cell: it is made, measured, and every value told as it comes.

use std::fs::File;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::cpu::{self, Cpu};
use super::distance;
use super::error::BenchError;
use super::event::{Event, Teller};
use super::generator::Generator;
use super::iperf::{self, Crossed, Server};
use super::lab::{self, Lab};
use super::metric::{CpuOf, Load, Metric, Percentile, Tcp, Traffic};
use super::peer::Peer;
use super::plan::{FRAME_SIZES, LOSS_FREE_SIZES, Plan, TRIAL, TRIALS, Test};
use super::rfc2544;
use super::rtt;
use crate::sys::sandbox::SandboxError;

/// Takes the turn.
pub(super) fn take(peer: Peer, plan: &Plan, furnished: Result<(), SandboxError>, pipe: File) {
    let mut teller = Teller::new(pipe);
    let last = match furnished.map(|()| Turn::begin(peer, plan, &mut teller)) {
        Err(error) => Event::Nowhere(error.to_string()),
        Ok(begun) => match begun.and_then(|mut turn| turn.measure()) {
            Ok(()) => Event::Done,
            Err(error) => Event::Failed(error.to_string()),
        },
    };
    // Nobody listens any more: then nobody wants it.
    let _ = teller.tell(&last);
}

struct Turn<'a> {
    plan: &'a Plan,
    lab: Lab,
    teller: &'a mut Teller,
    pings: rtt::Client,
}

impl Turn<'_> {
    /// Makes the switch, and waits until it carries something.
    fn begin<'a>(peer: Peer, plan: &'a Plan, teller: &'a mut Teller) -> Result<Turn<'a>, BenchError> {
        teller.tell(&Event::Step("set-up".to_owned()))?;
        let lab = lab::build(peer, plan)?;
        if let Some(detail) = &lab.detail {
            teller.tell(&Event::Detail(detail.clone()))?;
        }
        let [first, second] = &lab.stations;
        let mut pings = rtt::Client::new(first, second)?;
        pings.await_answer()?;
        Ok(Turn { plan, lab, teller, pings })
    }

    /// A measurement that fails is noted, and the next one may not.
    fn measure(&mut self) -> Result<(), BenchError> {
        for test in &self.plan.tests {
            // Both addresses are known when it begins, however long ago the last one was.
            self.pings.await_answer()?;
            if let Err(error) = self.run(*test) {
                self.teller.tell(&Event::Note(format!("{}: {error}", super::plan::word(test))))?;
            }
        }
        Ok(())
    }

    fn run(&mut self, test: Test) -> Result<(), BenchError> {
        let container = self.lab.stations[1].address;
        match test {
            Test::Rtt => self.rtt(),
            Test::RttLoad => self.rtt_load(),
            Test::Tcp => self.tcp(Traffic::One, container),
            Test::Tcp4 => self.tcp(Traffic::Four, container),
            Test::Bidir => self.tcp(Traffic::Both, container),
            Test::Host => self.host(),
            Test::Udp => self.udp(),
            Test::Pps => self.frame_rates(),
        }
    }

    /// Once with each congestion control.
    fn tcp(&mut self, traffic: Traffic, to: Ipv4Addr) -> Result<(), BenchError> {
        let streams: &[&str] = match traffic {
            Traffic::One | Traffic::Host => &[],
            Traffic::Four => &["-P", "4"],
            Traffic::Both => &["--bidir"],
        };
        for control in &self.plan.controls {
            let tcp = Tcp { traffic, congestion_control: control.clone() };
            self.step(Metric::Tcp(tcp.clone()))?;
            self.lab.begin_with(control)?;
            let words = [&["-C", control], streams].concat();
            let (crossed, cpu) = self.placed(|turn| turn.stream(to, &words))?;
            self.value(Metric::Tcp(tcp.clone()), crossed.gbits)?;
            self.value(Metric::Cpu(tcp.clone(), CpuOf::Switch), cpu.switch / crossed.gigabits)?;
            self.value(Metric::Cpu(tcp, CpuOf::Machine), cpu.machine / crossed.gigabits)?;
        }
        Ok(())
    }

    fn host(&mut self) -> Result<(), BenchError> {
        let Some(host) = self.lab.host else { return Ok(()) };
        self.tcp(Traffic::Host, host)
    }

    fn udp(&mut self) -> Result<(), BenchError> {
        self.step(Metric::Udp)?;
        let to = self.lab.stations[1].address;
        let (crossed, _) = self.placed(|turn| turn.stream(to, &["-u", "-b", "0"]))?;
        self.value(Metric::Udp, crossed.gbits)?;
        crossed.loss.map_or(Ok(()), |loss| self.value(Metric::UdpLoss, loss))
    }

    /// A client from the first container, and the CPU time that passed beside it.
    fn stream(&self, to: Ipv4Addr, words: &[&str]) -> Result<(Crossed, Cpu), BenchError> {
        let _server = self.serve(to)?;
        let stats = self.lab.switch.stats();
        let before = cpu::read(&stats)?;
        let client = iperf::Client::start(&self.lab.stations[0], to, self.plan.duration.as_secs(), words)?;
        let crossed = client.finish()?;
        Ok((crossed, cpu::read(&stats)? - before))
    }

    /// A server at this address.
    fn serve(&self, at: Ipv4Addr) -> Result<Server, BenchError> {
        Server::start(|command| match self.lab.stations.iter().find(|station| station.address == at) {
            Some(station) => station.spawn(command),
            // The cell's own namespace is the host's.
            None => command.spawn().map_err(BenchError::io("run iperf3")),
        })
    }

    fn frame_rates(&mut self) -> Result<(), BenchError> {
        for size in FRAME_SIZES {
            let offered = self.frame_rate(size)?;
            if LOSS_FREE_SIZES.contains(&size) {
                self.loss_free_rate(size, offered)?;
            }
        }
        Ok(())
    }

    /// The rate that was offered.
    fn frame_rate(&mut self, size: u32) -> Result<f64, BenchError> {
        self.step(Metric::FrameRate(size))?;
        let carried = self.placed(|turn| {
            let [from, to] = &turn.lab.stations;
            Generator::new(from, to, size)?.flood(turn.plan.duration)
        })?;
        self.value(Metric::FrameRate(size), carried.rate())?;
        Ok(carried.offered_rate())
    }

    fn loss_free_rate(&mut self, size: u32, most: f64) -> Result<(), BenchError> {
        self.step(Metric::LossFreeRate(size))?;
        let rate = self.placed(|turn| {
            let [from, to] = &turn.lab.stations;
            let generator = Generator::new(from, to, size)?;
            rfc2544::throughput(most, TRIALS, |rate| {
                generator.paced(rate, TRIAL).map(|carried| carried.trial())
            })
        })?;
        self.value(Metric::LossFreeRate(size), rate)
    }

    fn rtt(&mut self) -> Result<(), BenchError> {
        self.step_named(&Load::Idle.to_string())?;
        let times = self.placed(|turn| turn.pings.measure(turn.plan.duration))?;
        self.times(Load::Idle, &times)
    }

    /// Beside one stream, which begins before and ends after.
    fn rtt_load(&mut self) -> Result<(), BenchError> {
        const BEFORE: Duration = Duration::from_millis(500);
        self.step_named(&Load::Loaded.to_string())?;
        let control = self.plan.controls.first().map_or("cubic", String::as_str);
        self.lab.begin_with(control)?;
        let times = self.placed(|turn| {
            let [from, to] = &turn.lab.stations;
            let _server = turn.serve(to.address)?;
            let seconds = turn.plan.duration.as_secs() + 1;
            let stream = iperf::Client::start(from, to.address, seconds, &["-C", control])?;
            turn.pings.measure(BEFORE)?;
            let times = turn.pings.measure(turn.plan.duration)?;
            stream.finish()?;
            Ok(times)
        })?;
        self.times(Load::Loaded, &times)
    }

    fn times(&mut self, load: Load, times: &rtt::Times) -> Result<(), BenchError> {
        for percentile in Percentile::ALL {
            if let Some(us) = times.percentile(percentile.percent()) {
                self.value(Metric::Rtt(load, percentile), us)?;
            }
        }
        if times.lost > 0 {
            self.teller.tell(&Event::Note(format!("{load}: {} requests had no answer", times.lost)))?;
        }
        self.teller.tell(&Event::Times(load, times.distribution()))
    }

    /// Measures, and tells how far apart the CPUs were meanwhile, as far as before and after can say.
    fn placed<T>(
        &mut self,
        measure: impl FnOnce(&mut Self) -> Result<T, BenchError>,
    ) -> Result<T, BenchError> {
        let before = distance::measure();
        let measured = measure(self)?;
        let farthest = [before, distance::measure()].into_iter().flatten().reduce(f64::max);
        self.teller.tell(&Event::Distance(farthest))?;
        Ok(measured)
    }

    #[allow(clippy::needless_pass_by_value, reason = "callers have no further use for it")]
    fn step(&mut self, metric: Metric) -> Result<(), BenchError> {
        self.step_named(&metric.to_string())
    }

    fn step_named(&mut self, name: &str) -> Result<(), BenchError> {
        self.teller.tell(&Event::Step(name.to_owned()))
    }

    fn value(&mut self, metric: Metric, value: f64) -> Result<(), BenchError> {
        self.teller.tell(&Event::Value(metric, value))
    }
}
