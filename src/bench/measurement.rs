//! One measurement of one switch in an isolated process: creates the switch, runs the tests, and reports
//! each value.

use std::fs::File;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::cpu::{self, Cpu};
use super::distance;
use super::echo::EchoProcess;
use super::error::BenchError;
use super::event::{BenchEvent, EventWriter};
use super::generator::Generator;
use super::iperf::{self, Server, StreamResult};
use super::lab::{self, Lab};
use super::metric::{CpuScope, Metric, Percentile, RoundTrip, Tcp, Traffic};
use super::peer::Peer;
use super::plan::{BROADCAST_SIZE, BenchPlan, FRAME_SIZES, LOSS_FREE_SIZES, TRIAL, TRIALS, Test};
use super::rfc2544;
use super::rtt;
use crate::sys::sandbox::SandboxError;

/// Runs all tests of `plan` with `peer`. This is the main function of the isolated process.
pub(super) fn run_isolated(peer: Peer, plan: &BenchPlan, namespaces: Result<(), SandboxError>, pipe: File) {
    let mut events = EventWriter::new(pipe);
    let last = match namespaces.map(|()| Measurement::set_up(peer, plan, &mut events)) {
        Err(error) => BenchEvent::NoNamespaces(error.to_string()),
        Ok(prepared) => match prepared.and_then(|mut measurement| measurement.measure()) {
            Ok(()) => BenchEvent::Done,
            Err(error) => BenchEvent::Failed(error.to_string()),
        },
    };
    // If the parent has closed the pipe, it does not need the result.
    let _ = events.write(&last);
}

struct Measurement<'a> {
    plan: &'a BenchPlan,
    lab: Lab,
    events: &'a mut EventWriter,
    echo: EchoProcess,
    rtt_client: rtt::RttClient,
}

impl Measurement<'_> {
    /// Creates the switch and waits until it forwards frames.
    fn set_up<'a>(
        peer: Peer,
        plan: &'a BenchPlan,
        events: &'a mut EventWriter,
    ) -> Result<Measurement<'a>, BenchError> {
        events.write(&BenchEvent::Step("set-up".to_owned()))?;
        let echo = EchoProcess::start()?;
        let lab = lab::build(peer, plan)?;
        if let Some(detail) = &lab.detail {
            events.write(&BenchEvent::Detail(detail.clone()))?;
        }
        let [first, second] = &lab.endpoints;
        let mut rtt_client = rtt::RttClient::udp(first, second, &echo)?;
        rtt_client.wait_for_reply()?;
        Ok(Measurement { plan, lab, events, echo, rtt_client })
    }

    /// Runs all tests. A failed test is reported as a note, and the next one runs.
    fn measure(&mut self) -> Result<(), BenchError> {
        for test in &self.plan.tests {
            // Both neighbour entries and FDB entries must exist when a test begins, however long the last
            // one took.
            self.rtt_client.wait_for_reply()?;
            if let Err(error) = self.run(*test) {
                self.events.write(&BenchEvent::Note(format!("{}: {error}", super::plan::word(test))))?;
            }
        }
        Ok(())
    }

    fn run(&mut self, test: Test) -> Result<(), BenchError> {
        let container = self.lab.endpoints[1].address;
        match test {
            Test::Rtt => self.rtt(RoundTrip::Udp),
            Test::RttTcp => self.rtt(RoundTrip::Tcp),
            Test::Ping => self.rtt(RoundTrip::Ping),
            Test::RttLoad => self.rtt_load(),
            Test::Tcp => self.tcp(Traffic::One, container),
            Test::Tcp4 => self.tcp(Traffic::Four, container),
            Test::Bidir => self.tcp(Traffic::Both, container),
            Test::Host => self.host(),
            Test::Udp => self.udp(),
            Test::Pps => self.frame_rates(),
            Test::Broadcast => self.broadcasts(),
        }
    }

    /// Runs once with each congestion control.
    fn tcp(&mut self, traffic: Traffic, to: Ipv4Addr) -> Result<(), BenchError> {
        let streams: &[&str] = match traffic {
            Traffic::One | Traffic::Host => &[],
            Traffic::Four => &["-P", "4"],
            Traffic::Both => &["--bidir"],
        };
        for control in &self.plan.controls {
            let tcp = Tcp { traffic, congestion_control: control.clone() };
            self.report_step(Metric::Tcp(tcp.clone()))?;
            self.lab.set_congestion_control(control)?;
            let words = [&["-C", control], streams].concat();
            let (result, cpu) = self.with_cpu_distance(|measurement| measurement.stream(to, &words))?;
            self.report_value(Metric::Tcp(tcp.clone()), result.gbits)?;
            self.report_value(Metric::Cpu(tcp.clone(), CpuScope::Switch), cpu.switch / result.gigabits)?;
            self.report_value(Metric::Cpu(tcp, CpuScope::Machine), cpu.machine / result.gigabits)?;
        }
        Ok(())
    }

    fn host(&mut self) -> Result<(), BenchError> {
        let Some(host) = self.lab.host else { return Ok(()) };
        self.tcp(Traffic::Host, host)
    }

    fn udp(&mut self) -> Result<(), BenchError> {
        self.report_step(Metric::Udp)?;
        let to = self.lab.endpoints[1].address;
        let (result, _) = self.with_cpu_distance(|measurement| measurement.stream(to, &["-u", "-b", "0"]))?;
        self.report_value(Metric::Udp, result.gbits)?;
        result.loss.map_or(Ok(()), |loss| self.report_value(Metric::UdpLoss, loss))
    }

    /// Runs an iperf3 client in the first container, and measures the CPU time meanwhile.
    fn stream(&self, to: Ipv4Addr, words: &[&str]) -> Result<(StreamResult, Cpu), BenchError> {
        let _server = self.start_server(to)?;
        let stats = self.lab.switch.stats();
        let before = cpu::read(&stats)?;
        let client =
            iperf::IperfClient::start(&self.lab.endpoints[0], to, self.plan.duration.as_secs(), words)?;
        let result = client.finish()?;
        Ok((result, cpu::read(&stats)? - before))
    }

    /// Starts a server at this address.
    fn start_server(&self, at: Ipv4Addr) -> Result<Server, BenchError> {
        Server::start(|command| match self.lab.endpoints.iter().find(|endpoint| endpoint.address == at) {
            Some(endpoint) => endpoint.spawn(command),
            // The namespace of this process is the host's.
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

    /// Returns the offered rate.
    fn frame_rate(&mut self, size: u32) -> Result<f64, BenchError> {
        self.report_step(Metric::FrameRate(size))?;
        let counts = self.with_cpu_distance(|measurement| {
            let [from, to] = &measurement.lab.endpoints;
            Generator::new(from, to, size)?.send_all(measurement.plan.duration)
        })?;
        self.report_value(Metric::FrameRate(size), counts.rate())?;
        Ok(counts.offered_rate())
    }

    fn broadcasts(&mut self) -> Result<(), BenchError> {
        let metric = Metric::BroadcastRate(BROADCAST_SIZE);
        self.report_step(metric.clone())?;
        let counts = self.with_cpu_distance(|measurement| {
            let [from, to] = &measurement.lab.endpoints;
            Generator::of_broadcasts(from, to, BROADCAST_SIZE)?.send_all(measurement.plan.duration)
        })?;
        self.report_value(metric, counts.rate())
    }

    fn loss_free_rate(&mut self, size: u32, most: f64) -> Result<(), BenchError> {
        self.report_step(Metric::LossFreeRate(size))?;
        let rate = self.with_cpu_distance(|measurement| {
            let [from, to] = &measurement.lab.endpoints;
            let generator = Generator::new(from, to, size)?;
            rfc2544::throughput(most, TRIALS, |rate| {
                generator.send_at_rate(rate, TRIAL).map(|counts| counts.trial())
            })
        })?;
        self.report_value(Metric::LossFreeRate(size), rate)
    }

    fn rtt(&mut self, trip: RoundTrip) -> Result<(), BenchError> {
        self.report_step_name(&trip.to_string())?;
        let duration = self.plan.duration;
        let [from, to] = &self.lab.endpoints;
        let times = match trip {
            RoundTrip::Udp | RoundTrip::UdpUnderLoad => {
                self.with_cpu_distance(|measurement| measurement.rtt_client.measure(duration))?
            }
            RoundTrip::Tcp => {
                let mut client = rtt::RttClient::tcp(from, to, &self.echo)?;
                self.with_cpu_distance(|_| client.measure(duration))?
            }
            RoundTrip::Ping => {
                let mut client = rtt::RttClient::ping(from, to)?;
                self.with_cpu_distance(|_| client.measure(duration))?
            }
        };
        self.report_times(trip, &times)
    }

    /// Measures during one TCP stream, which begins before and ends after the measurement.
    fn rtt_load(&mut self) -> Result<(), BenchError> {
        const BEFORE: Duration = Duration::from_millis(500);
        self.report_step_name(&RoundTrip::UdpUnderLoad.to_string())?;
        let control = self.plan.controls.first().map_or("cubic", String::as_str);
        self.lab.set_congestion_control(control)?;
        let times = self.with_cpu_distance(|measurement| {
            let [from, to] = &measurement.lab.endpoints;
            let _server = measurement.start_server(to.address)?;
            let seconds = measurement.plan.duration.as_secs() + 1;
            let stream = iperf::IperfClient::start(from, to.address, seconds, &["-C", control])?;
            measurement.rtt_client.measure(BEFORE)?;
            let times = measurement.rtt_client.measure(measurement.plan.duration)?;
            stream.finish()?;
            Ok(times)
        })?;
        self.report_times(RoundTrip::UdpUnderLoad, &times)
    }

    fn report_times(&mut self, trip: RoundTrip, times: &rtt::RoundTripTimes) -> Result<(), BenchError> {
        for percentile in Percentile::ALL {
            if let Some(us) = times.percentile(percentile.percent()) {
                self.report_value(Metric::Rtt(trip, percentile), us)?;
            }
        }
        if times.lost > 0 {
            self.events.write(&BenchEvent::Note(format!("{trip}: {} requests had no reply", times.lost)))?;
        }
        self.events.write(&BenchEvent::Times(trip, times.distribution()))
    }

    /// Runs a measurement, and reports the larger of the distances between the CPUs before and after it.
    fn with_cpu_distance<T>(
        &mut self,
        measure: impl FnOnce(&mut Self) -> Result<T, BenchError>,
    ) -> Result<T, BenchError> {
        let before = distance::measure();
        let measured = measure(self)?;
        let longest = [before, distance::measure()].into_iter().flatten().reduce(f64::max);
        self.events.write(&BenchEvent::Distance(longest))?;
        Ok(measured)
    }

    #[allow(clippy::needless_pass_by_value, reason = "callers have no further use for it")]
    fn report_step(&mut self, metric: Metric) -> Result<(), BenchError> {
        self.report_step_name(&metric.to_string())
    }

    fn report_step_name(&mut self, name: &str) -> Result<(), BenchError> {
        self.events.write(&BenchEvent::Step(name.to_owned()))
    }

    fn report_value(&mut self, metric: Metric, value: f64) -> Result<(), BenchError> {
        self.events.write(&BenchEvent::Value(metric, value))
    }
}
