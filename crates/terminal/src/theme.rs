//! How things look. Everything is told by words and signs too, so nothing is lost without colours.

use ratatui_core::style::{Color, Modifier, Style};

/// What something is, for the eye.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Look {
    /// Text.
    Plain,
    /// Less important than text.
    Dim,
    /// More important than text.
    Strong,
    /// Emphasis in a text.
    Leaning,
    /// Struck out in a text.
    Struck,
    /// A heading in a text.
    Heading,
    /// Code in a text.
    Code,
    /// The address of a link.
    Link,
    /// What the user said.
    User,
    /// What the agent said.
    Agent,
    /// What a person said in the agent's place.
    Operator,
    /// What the gateway said.
    Notice,
    /// It waits for the person who reads this.
    Waits,
    /// It went wrong.
    Wrong,
    /// It works.
    Works,
    /// The one that is shown, among others.
    Chosen,
    /// A bar across the screen.
    Bar,
    /// Lines between parts.
    Line,
}

/// The style of a look.
pub(crate) fn style(look: Look, color: bool) -> Style {
    let plain = Style::new();
    let with = |tone: Color| if color { plain.fg(tone) } else { plain };
    match look {
        Look::Plain => plain,
        Look::Dim | Look::Line => {
            if color {
                plain.fg(Color::DarkGray)
            } else {
                plain.add_modifier(Modifier::DIM)
            }
        }
        Look::Strong => plain.add_modifier(Modifier::BOLD),
        Look::Leaning => plain.add_modifier(Modifier::ITALIC),
        Look::Struck => plain.add_modifier(Modifier::CROSSED_OUT),
        Look::Heading => plain.add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
        Look::Code => with(Color::Yellow),
        Look::Link => with(Color::Blue).add_modifier(Modifier::UNDERLINED),
        Look::User => with(Color::Cyan).add_modifier(Modifier::BOLD),
        Look::Agent => with(Color::Green).add_modifier(Modifier::BOLD),
        Look::Operator => with(Color::Magenta).add_modifier(Modifier::BOLD),
        Look::Notice => with(Color::Blue).add_modifier(Modifier::BOLD),
        Look::Waits => with(Color::Yellow).add_modifier(Modifier::BOLD | Modifier::REVERSED),
        Look::Wrong => with(Color::Red).add_modifier(Modifier::BOLD),
        Look::Works => with(Color::Green),
        Look::Chosen => plain.add_modifier(Modifier::BOLD | Modifier::REVERSED),
        Look::Bar => plain.add_modifier(Modifier::REVERSED),
    }
}
