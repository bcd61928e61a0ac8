//! The values that options accept: the command line's view of types that know nothing of it.

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::control::capture::CaptureDirection;
use crate::control::event::EventType;
use crate::control::log::LogLevel;
use crate::control::report::{EdgeSetting, SocketType};
use crate::control::{EngineChoice, FastPathChoice, StpMode};
use crate::switch::vlan::VlanProtocol;

impl ValueEnum for EngineChoice {
    fn value_variants<'a>() -> &'a [Self] {
        &[EngineChoice::Auto, EngineChoice::Uring, EngineChoice::Poll]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            EngineChoice::Auto => {
                PossibleValue::new("auto").help("io_uring where the kernel has what it needs, else poll")
            }
            EngineChoice::Uring => PossibleValue::new("uring").help("io_uring, or fail"),
            EngineChoice::Poll => PossibleValue::new("poll").help("epoll with read and write"),
        })
    }
}

impl ValueEnum for FastPathChoice {
    fn value_variants<'a>() -> &'a [Self] {
        &[FastPathChoice::Auto, FastPathChoice::On, FastPathChoice::Off]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            FastPathChoice::Auto => PossibleValue::new("auto").help("where the kernel has what it needs"),
            FastPathChoice::On => PossibleValue::new("on").help("yes, or fail"),
            FastPathChoice::Off => PossibleValue::new("off").help("the workers forward everything"),
        })
    }
}

impl ValueEnum for SocketType {
    fn value_variants<'a>() -> &'a [Self] {
        &SocketType::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            SocketType::Seqpacket => "A virtio-net header and a frame in each message: another switch",
            SocketType::Stream => "Frames with their length before them: QEMU (-netdev stream), passt",
            SocketType::Dgram => "A frame in each datagram: QEMU (-netdev dgram)",
        };
        Some(PossibleValue::new(self.name()).help(help))
    }
}

impl ValueEnum for VlanProtocol {
    fn value_variants<'a>() -> &'a [Self] {
        &[VlanProtocol::Dot1q, VlanProtocol::Dot1ad]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            VlanProtocol::Dot1q => {
                PossibleValue::new("802.1Q").alias("802.1q").help("Customer tags (TPID 0x8100)")
            }
            VlanProtocol::Dot1ad => PossibleValue::new("802.1ad").help("Service tags (TPID 0x88a8)"),
        })
    }
}

impl ValueEnum for StpMode {
    fn value_variants<'a>() -> &'a [Self] {
        &[StpMode::Rstp, StpMode::Stp, StpMode::Off]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            StpMode::Rstp => {
                PossibleValue::new("rstp").help("RSTP, and STP with bridges that speak only that")
            }
            StpMode::Stp => PossibleValue::new("stp").help("STP on all ports"),
            StpMode::Off => PossibleValue::new("off").help("No spanning tree"),
        })
    }
}

impl ValueEnum for EdgeSetting {
    fn value_variants<'a>() -> &'a [Self] {
        &[EdgeSetting::Auto, EdgeSetting::On, EdgeSetting::Off]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            EdgeSetting::Auto => PossibleValue::new("auto").help("If no BPDU comes in for three seconds"),
            EdgeSetting::On => PossibleValue::new("on").help("Until a BPDU comes in"),
            EdgeSetting::Off => PossibleValue::new("off").help("Never"),
        })
    }
}

impl ValueEnum for LogLevel {
    fn value_variants<'a>() -> &'a [Self] {
        &[LogLevel::Off, LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            LogLevel::Off => "Log nothing",
            LogLevel::Error => "Errors that stop the switch",
            LogLevel::Warn => "Unexpected changes, such as a deleted device",
            LogLevel::Info => "Start and stop of the switch, added and deleted ports",
            LogLevel::Debug => "API requests too",
        };
        Some(PossibleValue::new(self.name()).help(help))
    }
}

impl ValueEnum for EventType {
    fn value_variants<'a>() -> &'a [Self] {
        EventType::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()).help(self.text().trim_end_matches('.')))
    }
}

impl ValueEnum for CaptureDirection {
    fn value_variants<'a>() -> &'a [Self] {
        &[CaptureDirection::In, CaptureDirection::Out, CaptureDirection::Both]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            CaptureDirection::In => PossibleValue::new("in").help("From the container into the switch"),
            CaptureDirection::Out => PossibleValue::new("out").help("From the switch to the container"),
            CaptureDirection::Both => PossibleValue::new("both").help("Both directions"),
        })
    }
}
