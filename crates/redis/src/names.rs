//! The names of keys and channels. What belongs together stands in one slot of a Redis cluster.

use crate::settings::Settings;
use crate::trouble::Trouble;

/// The longest text that may become part of a key or a channel, in bytes.
const PART_BYTES_MAX: usize = 2048;

/// What all names begin with.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    prefix: String,
    /// Channels are common to all databases of a server, so they name the cluster as well.
    channels: String,
}

impl Names {
    pub(crate) fn new(settings: &Settings) -> Self {
        let Settings { prefix, cluster, .. } = settings;
        Self { prefix: prefix.clone(), channels: format!("{prefix}:{cluster}") }
    }

    /// Whose keys these are, and, in the same slot, since when there are any.
    pub(crate) fn marker(&self) -> (String, String) {
        (format!("{}:cluster", self.prefix), format!("{{{}:cluster}}:since", self.prefix))
    }

    /// Who runs the turn of a session.
    pub(crate) fn active(&self, session: &str) -> Result<String, Trouble> {
        Ok(format!("{}:{{{}}}:turn", self.prefix, tag(session)?))
    }

    /// What has been used of a rate. It belongs to this rate alone: what was used of another one
    /// is never held against it.
    pub(crate) fn limit(
        &self,
        together: &str,
        name: &str,
        rate: (u32, u32),
    ) -> Result<String, Trouble> {
        let (per_minute, burst) = rate;
        let (tag, name) = (tag(together)?, tag(name)?);
        Ok(format!("{}:{{{tag}}}:limit:{per_minute}/{burst}:{name}", self.prefix))
    }

    /// What is told to a node.
    pub(crate) fn node(&self, node: &str) -> Result<String, Trouble> {
        Ok(format!("{}:node:{}", self.channels, tag(node)?))
    }

    /// What is told to every node.
    pub(crate) fn everybody(&self) -> String {
        format!("{}:all", self.channels)
    }

    /// What is written in a session.
    pub(crate) fn text(&self, session: &str) -> Result<String, Trouble> {
        Ok(format!("{}:{{{}}}:text", self.channels, tag(session)?))
    }
}

/// Without braces, which would move the end of the tag, and never empty, which would be no tag.
fn tag(text: &str) -> Result<String, Trouble> {
    if text.is_empty() || text.len() > PART_BYTES_MAX {
        return Err(Trouble::TooLarge("a name must have 1 to 2048 bytes"));
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '%' => out.push_str("%25"),
            '{' => out.push_str("%7B"),
            '}' => out.push_str("%7D"),
            _ => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::Names;
    use crate::settings::Settings;

    #[test]
    fn what_belongs_together_has_one_tag_and_different_names_never_meet() {
        let names = Names::new(&Settings::new("redis://127.0.0.1", "home", "one"));
        assert_eq!(names.marker().0, "turnkeep:cluster");
        assert_eq!(names.marker().1, "{turnkeep:cluster}:since");
        assert_eq!(names.active("a:b").as_deref(), Ok("turnkeep:{a:b}:turn"));
        assert_eq!(names.active("}{%").as_deref(), Ok("turnkeep:{%7D%7B%25}:turn"));
        let limit = names.limit("tenant", "x", (60, 3));
        assert_eq!(limit.as_deref(), Ok("turnkeep:{tenant}:limit:60/3:x"));
        assert_eq!(names.text("a:b").as_deref(), Ok("turnkeep:home:{a:b}:text"));
        assert!(names.active("").is_err());
        assert!(names.node(&"n".repeat(2049)).is_err());
    }
}
