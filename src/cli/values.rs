//! The values that options accept: the command line's view of types that know nothing of it.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, Command, ValueEnum};

use crate::control::capture::CaptureDirection;
use crate::control::event::EventType;
use crate::control::log::LogLevel;
use crate::control::report::{EdgeSetting, SocketType, UplinkMode, VlanState};
use crate::control::{EngineChoice, FastPathChoice, StpMode};
use crate::switch::MirrorDirection;
use crate::switch::vlan::VlanProtocol;

/// Parses `on` or `off`, as `bridge link set` does, and the words of a configuration file: `true` or `false`.
#[derive(Debug, Clone, Copy)]
pub(super) struct OnOff;

impl TypedValueParser for OnOff {
    type Value = bool;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<bool, clap::Error> {
        let parse = |word: String| match word.as_str() {
            "on" | "true" => Ok(true),
            "off" | "false" => Ok(false),
            _ => Err(format!("expected on or off, not \"{word}\"")),
        };
        StringValueParser::new().try_map(parse).parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue>>> {
        Some(Box::new([true, false].map(|on| PossibleValue::new(on_off(on))).into_iter()))
    }
}

/// The word for a setting that is on or off.
pub(super) const fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

/// Describes an option with the values of [`OnOff`]. Other options stay as they are.
pub(super) fn describe_on_off(arg: Arg) -> Arg {
    if is_on_off(&arg) { arg.value_name("on|off").hide_possible_values(true) } else { arg }
}

/// As [`describe_on_off`]; without a value the option means on.
pub(super) fn on_without_value(arg: Arg) -> Arg {
    let optional = is_on_off(&arg);
    let arg = describe_on_off(arg);
    if optional { arg.num_args(0..=1).default_missing_value("on") } else { arg }
}

fn is_on_off(arg: &Arg) -> bool {
    let values = arg.get_value_parser().possible_values().into_iter().flatten();
    values.map(|value| value.get_name().to_owned()).eq([true, false].map(on_off))
}

/// A number, also in hexadecimal with 0x, as ip-link(8) accepts it.
pub(super) fn mask(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "write a number like 16392 or 0x4008".to_owned())
}

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

impl ValueEnum for UplinkMode {
    fn value_variants<'a>() -> &'a [Self] {
        &[UplinkMode::Bridge, UplinkMode::Ipvlan]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            UplinkMode::Bridge => PossibleValue::new("bridge").help("Their own"),
            UplinkMode::Ipvlan => PossibleValue::new("ipvlan").help("That of the device"),
        })
    }
}

impl ValueEnum for VlanState {
    fn value_variants<'a>() -> &'a [Self] {
        &VlanState::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            VlanState::Forwarding => "Learn and forward",
            VlanState::Learning => "Learn, and do not forward",
            VlanState::Disabled | VlanState::Listening | VlanState::Blocking => "Neither learn nor forward",
        };
        Some(PossibleValue::new(self.name()).help(help))
    }
}

impl ValueEnum for MirrorDirection {
    fn value_variants<'a>() -> &'a [Self] {
        &MirrorDirection::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            MirrorDirection::Rx => "Frames that the switch receives from the ports",
            MirrorDirection::Tx => "Frames that the switch sends to the ports",
            MirrorDirection::Both => "Both",
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
