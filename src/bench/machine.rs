//! Detects the machine that is measured.

use std::fs;
use std::thread::available_parallelism;

use super::results::MachineInfo;

/// The congestion control that is measured on every machine that has it, for comparison.
const COMMON_CONGESTION_CONTROL: &str = "cubic";

/// Detects this machine. Values that cannot be read are empty, because the results are useful without them.
pub(super) fn detect() -> MachineInfo {
    MachineInfo {
        kernel: read("/proc/sys/kernel/osrelease"),
        cpu_model: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned()),
        cpus: available_parallelism().map_or(1, usize::from),
        memory_bytes: memory(&read("/proc/meminfo")).unwrap_or(0),
        congestion_control: read("/proc/sys/net/ipv4/tcp_congestion_control"),
        virtualised: hypervisor(),
    }
}

/// The congestion controls to measure: a common one and the machine's own.
pub fn congestion_controls() -> Vec<String> {
    let available = read("/proc/sys/net/ipv4/tcp_available_congestion_control");
    choose(&available, &read("/proc/sys/net/ipv4/tcp_congestion_control"))
}

fn choose(available: &str, own: &str) -> Vec<String> {
    let common =
        available.split_whitespace().find(|control| *control == COMMON_CONGESTION_CONTROL && *control != own);
    common.into_iter().chain([own]).filter(|control| !control.is_empty()).map(str::to_owned).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// Value of a line `key : value`.
fn field(text: &str, key: &str) -> Option<String> {
    let values = text.lines().filter_map(|line| line.split_once(':'));
    values.into_iter().find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned())
}

fn memory(meminfo: &str) -> Option<u64> {
    let kib = field(meminfo, "MemTotal")?;
    kib.strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib << 10)
}

fn hypervisor() -> Option<String> {
    let maker = read("/sys/class/dmi/id/sys_vendor") + " " + &read("/sys/class/dmi/id/product_name");
    hypervisor_from(field(&read("/proc/cpuinfo"), "flags").as_deref(), &maker).map(str::to_owned)
}

/// Identifies the hypervisor by the vendor of the machine. An x86 CPU has a flag that says whether there is
/// a hypervisor. Other CPUs have no flags.
fn hypervisor_from(flags: Option<&str>, maker: &str) -> Option<&'static str> {
    const MAKERS: [(&str, &str); 7] = [
        ("QEMU", "kvm"),
        ("KVM", "kvm"),
        ("Amazon EC2", "kvm"),
        ("VMware", "vmware"),
        ("VirtualBox", "virtualbox"),
        ("Microsoft", "hyper-v"),
        ("Xen", "xen"),
    ];
    let named = MAKERS.into_iter().find(|(word, _)| maker.contains(word)).map(|(_, name)| name);
    match flags {
        Some(flags) if !flags.split_whitespace().any(|flag| flag == "hypervisor") => None,
        Some(_) => named.or(Some("unknown")),
        None => named,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chooses_cubic_and_own_congestion_control() {
        assert_eq!(choose("reno bbr cubic", "bbr"), ["cubic", "bbr"]);
        assert_eq!(choose("reno cubic", "cubic"), ["cubic"]);
        assert_eq!(choose("reno", "reno"), ["reno"]);
        assert!(choose("", "").is_empty());
    }

    #[test]
    fn parses_proc_fields() {
        let info = "processor\t: 0\nmodel name\t: Some CPU @ 2.00GHz\n";
        assert_eq!(field(info, "model name").as_deref(), Some("Some CPU @ 2.00GHz"));
        assert_eq!(memory("MemTotal:        1024 kB\nMemFree: 1 kB\n"), Some(1 << 20));
        assert_eq!(memory(""), None);
    }

    #[test]
    fn detects_hypervisor() {
        assert_eq!(hypervisor_from(Some("fpu hypervisor"), "QEMU Standard PC"), Some("kvm"));
        assert_eq!(hypervisor_from(Some("fpu hypervisor"), "Unknown vendor"), Some("unknown"));
        assert_eq!(hypervisor_from(Some("fpu"), "Amazon EC2 m5.metal"), None);
        assert_eq!(hypervisor_from(None, "VMware, Inc. VMware7,1"), Some("vmware"));
        assert_eq!(hypervisor_from(None, ""), None);
    }

    #[test]
    fn detects_this_machine() {
        let machine = detect();
        assert!(!machine.kernel.is_empty() && machine.cpus > 0 && machine.memory_bytes > 0, "{machine:?}");
    }
}
