//! How much memory there is: the machine's, or the control group's if that is less.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// What a machine that cannot be asked is taken to have.
const FALLBACK_BYTES: u64 = 1 << 30;

/// The least of the machine's memory and every limit that a control group sets on this process.
pub(super) fn memory_bytes() -> u64 {
    memory_bytes_under(Path::new("/"))
}

fn memory_bytes_under(root: &Path) -> u64 {
    let machine = read(&root.join("proc/meminfo")).and_then(|text| total(&text));
    let groups = read(&root.join("proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().flat_map(|line| group_limits(root, line));
    limits.chain(machine).min().unwrap_or(FALLBACK_BYTES)
}

/// The files are short; a limit keeps a strange file system from filling memory.
fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path)
        .ok()?
        .take(64 * 1024)
        .read_to_string(&mut text)
        .ok()?;
    Some(text)
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The limits of one line of `/proc/self/cgroup` (`id:controllers:path`), those of the groups above included.
fn group_limits(root: &Path, line: &str) -> Vec<u64> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
        return Vec::new();
    };
    let (mount, file) = if controllers.is_empty() {
        (root.join("sys/fs/cgroup"), "memory.max")
    } else if controllers
        .split(',')
        .any(|controller| controller == "memory")
    {
        (root.join("sys/fs/cgroup/memory"), "memory.limit_in_bytes")
    } else {
        return Vec::new();
    };
    // Inside a container the path may be the host's and not exist here; the mount itself is then the container's group,
    // and it is the last of the ancestors. A path that climbs out of the mount is not followed.
    let path = path.trim_start_matches('/');
    let inside = !Path::new(path)
        .components()
        .any(|part| part == std::path::Component::ParentDir);
    let group = if inside {
        mount.join(path)
    } else {
        mount.clone()
    };
    group
        .ancestors()
        .take_while(|ancestor| ancestor.starts_with(&mount))
        // `max`, for no limit, is not a number; the older kind says "no limit" with a number above any machine's memory.
        .filter_map(|ancestor| read(&ancestor.join(file))?.trim().parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: (&str, &str) = (
        "proc/meminfo",
        "MemTotal:        8000000 kB\nMemFree:  1 kB\n",
    );

    fn check(files: &[(&str, &str)], bytes: u64) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        assert_eq!(memory_bytes_under(root.path()), bytes, "{files:?}");
    }

    #[test]
    fn the_machine_is_asked_first() {
        check(&[MEMINFO], 8_192_000_000);
    }

    #[test]
    fn a_control_group_or_one_above_it_may_allow_less() {
        let here = ("proc/self/cgroup", "0::/a/b\n");
        check(
            &[MEMINFO, here, ("sys/fs/cgroup/a/b/memory.max", "1000\n")],
            1000,
        );
        check(
            &[
                MEMINFO,
                here,
                ("sys/fs/cgroup/a/b/memory.max", "max\n"),
                ("sys/fs/cgroup/a/memory.max", "2000\n"),
            ],
            2000,
        );
        check(
            &[MEMINFO, here, ("sys/fs/cgroup/a/b/memory.max", "max\n")],
            8_192_000_000,
        );
        check(
            &[
                MEMINFO,
                ("proc/self/cgroup", "0::/../x\n"),
                ("sys/fs/cgroup/memory.max", "3000\n"),
            ],
            3000,
        );
    }

    #[test]
    fn the_older_control_groups_are_understood() {
        let groups = (
            "proc/self/cgroup",
            "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n",
        );
        check(
            &[
                MEMINFO,
                groups,
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "5000\n"),
            ],
            5000,
        );
        check(
            &[
                MEMINFO,
                groups,
                (
                    "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes",
                    "9223372036854771712\n",
                ),
            ],
            8_192_000_000,
        );
    }

    #[test]
    fn a_machine_that_says_nothing_sensible_has_one_gibibyte() {
        check(&[], FALLBACK_BYTES);
        check(
            &[
                ("proc/meminfo", "MemTotal: many\n"),
                ("proc/self/cgroup", "x\n::\n0:\n"),
            ],
            FALLBACK_BYTES,
        );
    }
}
