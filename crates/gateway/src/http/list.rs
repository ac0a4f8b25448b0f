//! Pages of lists, all alike: how many rows, behind which place, and what to ask for next.

use super::problem::Problem;
use super::query::Query;

/// Longest page.
const LIMIT_MAX: usize = 1000;
/// A page, unless asked for another length.
const LIMIT_DEFAULT: usize = 100;

/// How many rows a page has at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit(usize);

impl Limit {
    /// What `limit` says.
    pub(super) fn of(query: Query<'_>) -> Result<Self, Problem> {
        let limit = query.parsed("limit", "a number from 1 to 1000")?.unwrap_or(LIMIT_DEFAULT);
        if (1..=LIMIT_MAX).contains(&limit) {
            return Ok(Self(limit));
        }
        Err(Problem::field("limit", format!("must be from 1 to {LIMIT_MAX}, not {limit}")))
    }

    pub(super) const fn get(self) -> usize {
        self.0
    }

    /// How many rows to read: the one behind the page shows that there are more.
    pub(super) const fn and_one(self) -> usize {
        self.0 + 1
    }

    /// A page of rows that were read with [`Limit::and_one`].
    pub(super) fn page<T>(self, mut rows: Vec<T>) -> Page<T> {
        let more = rows.len() > self.0;
        rows.truncate(self.0);
        Page { rows, more }
    }
}

/// The rows of one page.
#[derive(Debug)]
pub(super) struct Page<T> {
    pub(super) rows: Vec<T>,
    more: bool,
}

impl<T> Page<T> {
    /// What to go on behind: the place of the last row, if more come behind it.
    pub(super) fn next<'p, P>(&'p self, place: impl FnOnce(&'p T) -> P) -> Option<P> {
        self.rows.last().filter(|_| self.more).map(place)
    }
}

/// The number that `after` says, of something with ids from 1 on; 0 is the beginning.
pub(super) fn after_id(query: Query<'_>, of: &str) -> Result<u64, Problem> {
    Ok(query.parsed("after", &format!("the id of {of}, 0 or more"))?.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_bounded() {
        let check = |uri: &'static str, expect: Option<usize>| {
            let uri = hyper::Uri::from_static(uri);
            assert_eq!(Limit::of(Query::of(&uri)).ok(), expect.map(Limit), "{uri}");
        };
        check("/", Some(100));
        check("/?limit=1", Some(1));
        check("/?limit=1000", Some(1000));
        check("/?limit=0", None);
        check("/?limit=1001", None);
        check("/?limit=-1", None);
        check("/?limit=", None);
        check("/?limit=99999999999999999999999", None);
    }

    #[test]
    fn the_row_behind_a_page_says_that_there_are_more() {
        let check = |read: &[u64], rows: &[u64], next: Option<u64>| {
            let page = Limit(2).page(read.to_vec());
            assert_eq!((&*page.rows, page.next(|row| *row)), (rows, next));
        };
        assert_eq!(Limit(2).and_one(), 3);
        check(&[], &[], None);
        check(&[1, 2], &[1, 2], None);
        check(&[1, 2, 3], &[1, 2], Some(2));
    }
}
