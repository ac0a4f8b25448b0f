//! Streamed text as it is published: how a piece is written and read.

use turnkeep_core::draft::Piece;
use turnkeep_core::ids::{Attempt, Epoch, RunTag, TurnId};

use crate::trouble::Trouble;

/// What a piece needs besides its text, in bytes, at most.
const HEAD_BYTES_MAX: usize = 256;

/// What is published.
pub(crate) fn write(piece: &Piece, text_bytes_max: usize) -> Result<String, Trouble> {
    let Piece { run: RunTag { turn, epoch, attempt }, number, whole, text } = piece;
    if text.len() > text_bytes_max {
        return Err(Trouble::TooLarge("a piece of text"));
    }
    let kind = if *whole { "whole" } else { "piece" };
    Ok(format!("{kind} {epoch} {attempt} {number} {turn}\n{text}"))
}

/// What was published; none if it is no piece.
pub(crate) fn read(said: &str) -> Option<Piece> {
    let (head, text) = said.split_once('\n')?;
    let mut parts = (head.len() <= HEAD_BYTES_MAX).then(|| head.split(' '))?;
    let whole = match parts.next()? {
        "whole" => true,
        "piece" => false,
        _ => return None,
    };
    let epoch = Epoch(parts.next()?.parse().ok()?);
    let attempt = Attempt(parts.next()?.parse().ok()?);
    let number = parts.next()?.parse().ok().filter(|number| *number > 0)?;
    let turn: TurnId = parts.next()?.parse().ok()?;
    if parts.next().is_some() {
        return None;
    }
    Some(Piece { run: RunTag { turn, epoch, attempt }, number, whole, text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::{Piece, read, write};

    #[test]
    fn pieces_are_read_as_they_were_written_and_nothing_else() {
        let run = turnkeep_core::RunTag::default();
        let one = Piece { run, number: 7, whole: false, text: "a\nb é".to_owned() };
        let written = write(&one, 100).expect("it is small");
        assert_eq!(read(&written), Some(one.clone()));
        assert!(write(&one, 3).is_err());
        let turn = run.turn;
        let nought = format!("piece 1 1 0 {turn}\nx");
        let more = format!("piece 1 1 1 {turn} x\nx");
        let other = format!("note 1 1 1 {turn}\nx");
        for odd in ["", "piece", &nought, "piece 1 1 1\nx", "piece 1 1 1 t\nx", &more, &other] {
            assert_eq!(read(odd), None, "{odd}");
        }
    }
}
