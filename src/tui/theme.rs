//! Colours, and what stands in for them where there are none.

use ratatui::style::{Color, Modifier, Style};

/// What a piece of the screen means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StyleRole {
    /// The frame around a pane, and the one around the pane that the keys are for.
    Border,
    Focus,
    Title,
    /// Labels, units and what does not change.
    Dim,
    /// Up, forwarding, young.
    Good,
    /// Flooded, old, a question.
    Warn,
    /// Down, dropped.
    Bad,
    /// New within the last second, and within the last three.
    New,
    Recent,
    /// The port that was chosen.
    Selected,
    /// The body of the switch in the drawing.
    Chassis,
}

/// Whether there are colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Theme {
    Coloured,
    /// For `NO_COLOR` (no-color.org): bold, dim and reversed only.
    Monochrome,
}

impl Theme {
    /// As the environment asks for it: any value of `NO_COLOR` but an empty one.
    pub(super) fn of_environment() -> Theme {
        match std::env::var_os("NO_COLOR") {
            Some(value) if !value.is_empty() => Theme::Monochrome,
            _ => Theme::Coloured,
        }
    }

    /// The middle of the 256 colours, which reads on a dark terminal and on a light one.
    pub(super) fn style(self, role: StyleRole) -> Style {
        match self {
            Theme::Coloured => coloured(role),
            Theme::Monochrome => monochrome(role),
        }
    }
}

fn coloured(role: StyleRole) -> Style {
    let fg = |index| Style::new().fg(Color::Indexed(index));
    match role {
        StyleRole::Border => fg(240),
        StyleRole::Focus => fg(68),
        StyleRole::Title => fg(68).add_modifier(Modifier::BOLD),
        StyleRole::Dim => fg(244),
        StyleRole::Good => fg(71),
        StyleRole::Warn => fg(172),
        StyleRole::Bad => fg(167),
        StyleRole::New => fg(16).bg(Color::Indexed(114)),
        StyleRole::Recent => fg(71).add_modifier(Modifier::BOLD),
        StyleRole::Selected => Style::new().add_modifier(Modifier::REVERSED),
        StyleRole::Chassis => fg(252).bg(Color::Indexed(238)),
    }
}

fn monochrome(role: StyleRole) -> Style {
    match role {
        StyleRole::Border | StyleRole::Dim => Style::new().add_modifier(Modifier::DIM),
        StyleRole::Good => Style::new(),
        StyleRole::Focus | StyleRole::Title | StyleRole::Warn | StyleRole::Recent => {
            Style::new().add_modifier(Modifier::BOLD)
        }
        StyleRole::Bad => Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
        StyleRole::New | StyleRole::Selected | StyleRole::Chassis => {
            Style::new().add_modifier(Modifier::REVERSED)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monochrome_has_no_colours() {
        let roles = [
            StyleRole::Border,
            StyleRole::Focus,
            StyleRole::Title,
            StyleRole::Dim,
            StyleRole::Good,
            StyleRole::Warn,
            StyleRole::Bad,
            StyleRole::New,
            StyleRole::Recent,
            StyleRole::Selected,
            StyleRole::Chassis,
        ];
        for style in roles.map(|role| Theme::Monochrome.style(role)) {
            assert_eq!((style.fg, style.bg), (None, None));
        }
    }
}
