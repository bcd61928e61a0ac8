//! Moves a process into a network namespace before it executes another program, as `ip netns exec` does.

use std::fs;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use super::netns::{Netns, NetnsError, bind, kernel, name_of};

/// Moves the process into the namespace at `path`, with the namespace's `/sys`, with these files in `/etc`, each a name
/// and its text, and with the files of `/etc/netns/NAME` (ip-netns(8)). The process must have one thread.
///
/// # Errors
/// The namespace or a mount namespace could not be entered.
pub fn enter_for_exec(path: &Path, files: &[(&str, String)]) -> Result<(), NetnsError> {
    let netns = Netns::open(path)?;
    setns(&netns, CloneFlags::CLONE_NEWNET).map_err(kernel(format!("enter {}", path.display())))?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(kernel("make a mount namespace"))?;
    let slave = MsFlags::MS_SLAVE | MsFlags::MS_REC;
    mount(None::<&str>, "/", None::<&str>, slave, None::<&str>).map_err(kernel("make mounts private"))?;
    mount_etc_files(files);
    mount_sysfs();
    if let Some(name) = name_of(path) {
        bind_etc_files(&Path::new("/etc/netns").join(name));
    }
    Ok(())
}

/// Mounts files over those of these names in `/etc`. They are in a tmpfs of their own, so that nothing is left of them.
/// Most programs do not need them, so a failure is ignored.
fn mount_etc_files(files: &[(&str, String)]) {
    const SCRATCH: &str = "/sys";
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    if mount(Some("uswitch"), SCRATCH, Some("tmpfs"), flags, Some("mode=0755")).is_err() {
        return;
    }
    for (name, text) in files {
        let file = Path::new(SCRATCH).join(name);
        if fs::write(&file, text).is_ok() {
            let _ = bind(&file, &Path::new("/etc").join(name), MsFlags::MS_BIND);
        }
    }
    let _ = umount2(SCRATCH, MntFlags::MNT_DETACH);
}

/// `/sys/class/net` shows the devices of the namespace in which sysfs was mounted. Most programs do not need
/// it, and inside a container that hides parts of sysfs the kernel refuses the mount, so a failure is
/// ignored.
fn mount_sysfs() {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let _ = mount(Some("sysfs"), "/sys", Some("sysfs"), flags, None::<&str>);
}

/// Bind-mounts each file of `directory` over the file of that name in `/etc`, if there is one, as `ip netns
/// exec` does.
fn bind_etc_files(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let target = Path::new("/etc").join(entry.file_name());
        let _ = bind(&entry.path(), &target, MsFlags::MS_BIND);
    }
}
