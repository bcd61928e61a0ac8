//! Colours, and text attributes where colours are disabled.

use ratatui::style::{Color, Modifier, Style};

/// The meaning of a piece of the screen, which has a style.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StyleRole {
    /// Border of a pane, and of the focused pane.
    Border,
    Focus,
    Title,
    /// Labels and units.
    Dim,
    /// Up, forwarding, recent.
    Good,
    /// Flooded, old, a prompt.
    Warn,
    /// Down, dropped.
    Bad,
    /// New in the last second, and in the last three seconds.
    New,
    Recent,
    /// The selected port.
    Selected,
    /// The box of the switch in the drawing.
    Chassis,
}

/// Colours, or text attributes only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Theme {
    Coloured,
    /// For `NO_COLOR` (no-color.org): bold, dim and reversed only.
    Monochrome,
}

impl Theme {
    /// Monochrome if `NO_COLOR` is set and not empty.
    pub(super) fn of_environment() -> Theme {
        match std::env::var_os("NO_COLOR") {
            Some(value) if !value.is_empty() => Theme::Monochrome,
            _ => Theme::Coloured,
        }
    }

    /// Colours that are readable on dark and light backgrounds.
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
