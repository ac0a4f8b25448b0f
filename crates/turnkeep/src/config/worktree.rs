//! Git worktrees for the sessions of an agent that is a program: of which repository, and where.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::command::{CommandKeys, absolute};
use super::paths;
use super::secret::Told;
use super::value::{Range, Scalar, Set, Setting, text_schema};

/// Worktrees of one agent, if nothing else is typed.
const WORKTREES_MAX: usize = 32;
/// What the table may hold.
const ROWS: [&str; 3] = ["repository", "base", "folder"];

/// The table as typed.
#[derive(Clone, Debug, Default)]
pub(super) struct WorktreeTyped {
    repository: String,
    base: Option<String>,
    folder: Option<String>,
}

/// A git worktree for each session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WorktreeSettings {
    /// The repository.
    pub(crate) repository: PathBuf,
    /// What a new branch begins at.
    pub(crate) base: Option<String>,
    /// Where they stand; in the data folder if nowhere else.
    pub(crate) folder: Option<PathBuf>,
    /// How many there are at most.
    pub(crate) worktrees_max: usize,
}

impl Setting for WorktreeTyped {
    fn expected(_: Range) -> String {
        "a table with a repository, like { repository = \"/srv/shop\", base = \"main\" }".into()
    }

    fn schema(_: Range) -> Value {
        let rows = ROWS.map(|row| (row.to_owned(), text_schema()));
        let rows: serde_json::Map<_, _> = rows.into_iter().collect();
        json!({
            "type": "object",
            "properties": rows,
            "required": ["repository"],
            "additionalProperties": false,
        })
    }

    fn read(scalar: &Scalar, _: Range) -> Option<Self> {
        let Scalar::Pairs(pairs) = scalar else { return None };
        let mut typed = Self::default();
        for (name, text) in pairs {
            let text = text.clone();
            if !is_usable(&text) {
                return None;
            }
            match name.as_str() {
                "repository" => typed.repository = text,
                "base" => typed.base = Some(text),
                "folder" => typed.folder = Some(text),
                _ => return None,
            }
        }
        (!typed.repository.is_empty()).then_some(typed)
    }

    fn wrong_row(_: usize, name: &str, value: &Scalar) -> Option<String> {
        if !ROWS.contains(&name) {
            return Some(format!("is not known there; there are {}", ROWS.join(", ")));
        }
        let usable = value.text().is_some_and(is_usable);
        (!usable).then(|| "must be a text that is not empty, in quotes".into())
    }

    fn shown(&self) -> String {
        let rows = [Some(&self.repository), self.base.as_ref(), self.folder.as_ref()];
        let rows = ROWS.into_iter().zip(rows);
        let rows: Vec<String> =
            rows.filter_map(|(name, text)| Some(format!("{name} = {:?}", text?))).collect();
        format!("{{ {} }}", rows.join(", "))
    }
}

fn is_usable(text: &str) -> bool {
    !text.is_empty() && !text.contains('\0')
}

/// What is typed for an agent.
pub(super) fn worktrees(
    name: &str,
    keys: &CommandKeys,
    told: &mut Told<'_>,
) -> Option<WorktreeSettings> {
    let set = keys.worktree.as_ref()?;
    let WorktreeTyped { repository, base, folder } = set.value.clone();
    if base.as_ref().is_some_and(|base| base.starts_with('-')) {
        let text = format!("\"base\" in [agents.{name}.worktree] is no name of a commit");
        told.problems.add(&set.origin, text);
    }
    let path = |typed: String| {
        let typed = Set { value: PathBuf::from(typed), origin: set.origin.clone() };
        absolute(&paths::meant(&typed, told.env))
    };
    let (repository, folder) = (path(repository), folder.map(path));
    if !repository.is_dir() {
        let text = format!(
            "{}: \"worktree\" in [agents.{name}]: there is no folder {}",
            set.origin,
            repository.display()
        );
        told.notes.push(text);
    }
    let worktrees_max = keys.worktrees_max.as_ref().map_or(WORKTREES_MAX, |set| set.value);
    Some(WorktreeSettings { repository, base, folder, worktrees_max })
}
