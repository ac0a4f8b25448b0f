//! What processes have open, where the system says it (`/proc`).

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;

/// Where Linux tells of processes.
const PROC: &str = "/proc";

/// How many files each of these process groups has open, by its leader's number; none where the
/// system doesn't say. Looks at every process there is, once.
pub(super) fn files_of_groups(leaders: &BTreeSet<u32>) -> BTreeMap<u32, Option<u32>> {
    files_below(Path::new(PROC), leaders)
}

/// What this process has open, beside what is opened to look; none where the system doesn't say.
pub(super) fn own_files() -> Option<u64> {
    let files = std::fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    Some(files.saturating_sub(1))
}

fn files_below(proc: &Path, leaders: &BTreeSet<u32>) -> BTreeMap<u32, Option<u32>> {
    let known = proc.join("self/stat").exists();
    let mut files: BTreeMap<u32, Option<u32>> =
        leaders.iter().map(|leader| (*leader, known.then_some(0))).collect();
    let processes = std::fs::read_dir(proc).into_iter().flatten().flatten();
    for process in processes {
        let is_one = process.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok());
        let process = process.path();
        let Some(group) = is_one.then(|| group_of(&process)).flatten() else { continue };
        let Some(sum) = files.get_mut(&group) else { continue };
        *sum = match (*sum, files_of(&process)) {
            (Some(sum), Some(more)) => Some(sum.saturating_add(more)),
            _ => None,
        };
    }
    files
}

/// How many files a process has open: 0 if it has just ended.
fn files_of(process: &Path) -> Option<u32> {
    match std::fs::read_dir(process.join("fd")) {
        Ok(files) => u32::try_from(files.count()).ok(),
        Err(error) if error.kind() == ErrorKind::NotFound => Some(0),
        // What has ended and was not taken yet can't be looked into by everybody.
        Err(_) => group_of(process).is_none().then_some(0),
    }
}

/// The group of a process that lives.
fn group_of(process: &Path) -> Option<u32> {
    group_in(&std::fs::read_to_string(process.join("stat")).ok()?)
}

/// `NUMBER (NAME) STATE PARENT GROUP …`; the name may hold anything, also what looks like its end.
pub(super) fn group_in(stat: &str) -> Option<u32> {
    let mut behind = stat.rsplit_once(") ")?.1.split_ascii_whitespace();
    let state = behind.next()?;
    (!matches!(state, "Z" | "X" | "x")).then(|| behind.nth(1)?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_of_a_process_is_read() {
        let check = |stat: &str, expect: Option<u32>| assert_eq!(group_in(stat), expect, "{stat}");
        check("17 (python3) S 1 12 12 0 -1", Some(12));
        check("17 (a) Z) R 1 12 12 0 -1", Some(12));
        check("17 (python3) Z 1 12 12 0 -1", None);
        check("17 (python3", None);
        check("", None);
    }

    #[test]
    fn a_system_that_says_nothing_knows_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let leaders = BTreeSet::from([7]);
        assert_eq!(files_below(folder.path(), &leaders), BTreeMap::from([(7, None)]));
        // One group with two processes, one with none, and what is no process.
        for (process, group, files) in [("7", 7, 3), ("9", 7, 2), ("10", 8, 5), ("self", 0, 0)] {
            let fd = folder.path().join(process).join("fd");
            std::fs::create_dir_all(&fd).unwrap();
            let stat = format!("{process} (x) S 1 {group} 0");
            std::fs::write(fd.with_file_name("stat"), stat).unwrap();
            (0..files).for_each(|file| std::fs::write(fd.join(file.to_string()), "").unwrap());
        }
        let leaders = BTreeSet::from([7, 11]);
        let expect = BTreeMap::from([(7, Some(5)), (11, Some(0))]);
        assert_eq!(files_below(folder.path(), &leaders), expect);
    }
}
