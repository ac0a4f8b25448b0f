//! Wiping the unused parts of pages.
//!
//! `secure_delete` overwrites a row where it stands. But a page that was rebuilt on the way, because
//! a neighbour grew or went, still has older copies of rows between its list of cells and the first
//! of them. SQLite never reads that stretch, and never cleans it either. So: a reader looks at every
//! page, and the few that hold anything there are written again, zeros in its place, as part of
//! ordinary transactions.

use std::ops::Range;

use rusqlite::{CachedStatement, Connection, params};

use super::super::trouble::Result;

/// Pages that one read looks at.
pub(super) const LOOK_PAGES: u32 = 4096;
/// Pages that one change writes.
pub(super) const WIPE_PAGES: usize = 64;
/// From here on the first byte of other kinds of pages could be taken for a tree's.
const PAGES_MAX: u32 = 1 << 25;
/// The byte at which SQLite keeps its locks; its page holds nothing.
const LOCK_BYTE: u64 = 1 << 30;

/// What a look found.
#[derive(Debug)]
pub(super) enum Look {
    /// Pages to be wiped, and where the next look begins; none at the end.
    Dirty(Vec<u32>, Option<u32>),
    /// Pages can't be looked at here.
    Blind,
}

/// Looks at a stretch of pages, from 1 on.
pub(super) fn look(connection: &Connection, from: u32) -> Result<Look> {
    let count: u32 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    if count >= PAGES_MAX || !can_see(connection)? {
        return Ok(Look::Blind);
    }
    let until = count.min(from.saturating_add(LOOK_PAGES - 1));
    let mut pages = page_reader(connection)?;
    let mut dirty = Vec::new();
    for number in from..=until {
        if let Some(page) = read(&mut pages, number)?
            && !clean(&page, number)
        {
            dirty.push(number);
        }
    }
    Ok(Look::Dirty(dirty, Some(until + 1).filter(|next| *next <= count)))
}

/// Wipes pages that a look found; they may have changed since.
pub(super) fn wipe(connection: &Connection, numbers: &[u32]) -> Result<()> {
    let mut pages = page_reader(connection)?;
    let mut put =
        connection.prepare_cached("UPDATE sqlite_dbpage SET data = ?2 WHERE pgno = ?1")?;
    for number in numbers {
        let Some(mut page) = read(&mut pages, *number)? else { continue };
        if clean(&page, *number) {
            continue;
        }
        for unused in unused(&page, *number) {
            page[unused].fill(0);
        }
        put.execute(params![number, page])?;
    }
    Ok(())
}

/// Whether SQLite was built with the table of pages.
fn can_see(connection: &Connection) -> Result<bool> {
    let sql = "SELECT count(*) FROM pragma_module_list WHERE name = 'sqlite_dbpage'";
    Ok(connection.query_row(sql, [], |row| row.get::<_, i64>(0))? > 0)
}

fn page_reader(connection: &Connection) -> Result<CachedStatement<'_>> {
    Ok(connection.prepare_cached("SELECT data FROM sqlite_dbpage WHERE pgno = ?1")?)
}

fn read(pages: &mut CachedStatement<'_>, number: u32) -> Result<Option<Vec<u8>>> {
    let mut rows = pages.query([number])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(row.get(0)?)
}

fn clean(page: &[u8], number: u32) -> bool {
    unused(page, number).into_iter().all(|range| page[range].iter().all(|byte| *byte == 0))
}

/// The stretches of a tree's page that hold no cell; none of any other page, or of one that doesn't
/// look as it should. See "B-tree Pages" in SQLite's file format.
fn unused(page: &[u8], number: u32) -> Vec<Range<usize>> {
    let begins = u64::from(number - 1) * page.len() as u64;
    if begins == LOCK_BYTE {
        return Vec::new();
    }
    // The first page begins with the file's own head.
    let head = if number == 1 { 100 } else { 0 };
    let cells_at = match page.get(head) {
        Some(0x02 | 0x05) => head + 12,
        Some(0x0a | 0x0d) => head + 8,
        _ => return Vec::new(),
    };
    let (Some(first_free), Some(cells), Some(content)) =
        (short(page, head + 1), short(page, head + 3), short(page, head + 5))
    else {
        return Vec::new();
    };
    let content = if content == 0 { 65_536 } else { content };
    let list_end = cells_at + 2 * cells;
    if list_end > content || content > page.len() {
        return Vec::new();
    }
    let mut ranges = Vec::with_capacity(4);
    ranges.push(list_end..content);
    // Freed cells form a list, in order; each begins with the next one and its own length.
    let mut at = first_free;
    while at != 0 {
        let (Some(next), Some(length)) = (short(page, at), short(page, at + 2)) else {
            return Vec::new();
        };
        let end = at + length;
        if at < content || length < 4 || end > page.len() || (next != 0 && next < end) {
            return Vec::new();
        }
        ranges.push(at + 4..end);
        at = next;
    }
    ranges
}

fn short(page: &[u8], at: usize) -> Option<usize> {
    let bytes: [u8; 2] = page.get(at..at + 2)?.try_into().ok()?;
    Some(usize::from(u16::from_be_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A leaf of a table with one cell at its end.
    fn leaf() -> Vec<u8> {
        let mut page = vec![0; 512];
        page[0] = 0x0d;
        page[3..5].copy_from_slice(&1_u16.to_be_bytes());
        page[5..7].copy_from_slice(&500_u16.to_be_bytes());
        page[8..10].copy_from_slice(&500_u16.to_be_bytes());
        page[500..].fill(7);
        page
    }

    #[test]
    fn what_no_cell_holds_is_unused() {
        let mut page = leaf();
        assert_eq!(unused(&page, 2), vec![10..500]);
        assert!(clean(&page, 2));
        page[300] = 1;
        assert!(!clean(&page, 2));
        // A freed cell of twenty bytes before the one that is there.
        page[1..3].copy_from_slice(&480_u16.to_be_bytes());
        page[5..7].copy_from_slice(&480_u16.to_be_bytes());
        page[482..484].copy_from_slice(&20_u16.to_be_bytes());
        assert_eq!(unused(&page, 2), vec![10..480, 484..500]);
    }

    #[test]
    fn a_page_that_looks_odd_is_left_alone() {
        let check = |change: fn(&mut Vec<u8>)| {
            let mut page = leaf();
            change(&mut page);
            assert_eq!(unused(&page, 2), []);
        };
        check(|page| page[0] = 0);
        check(|page| page[0] = 1);
        check(|page| page[3] = 2);
        check(|page| page[5] = 9);
        // A list of freed cells that leads back, or out.
        check(|page| page[1..3].copy_from_slice(&20_u16.to_be_bytes()));
        check(|page| page[1..3].copy_from_slice(&511_u16.to_be_bytes()));
        check(Vec::clear);
        let number = u32::try_from(LOCK_BYTE / 512).unwrap() + 1;
        assert_eq!(unused(&leaf(), number), []);
    }
}
