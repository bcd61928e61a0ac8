//! Colours, and what stands in for them where there are none.

use ratatui::style::{Color, Modifier, Style};

/// What a piece of the screen means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
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
    Chosen,
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
    pub(super) fn style(self, role: Role) -> Style {
        match self {
            Theme::Coloured => coloured(role),
            Theme::Monochrome => monochrome(role),
        }
    }
}

fn coloured(role: Role) -> Style {
    let fg = |index| Style::new().fg(Color::Indexed(index));
    match role {
        Role::Border => fg(240),
        Role::Focus => fg(68),
        Role::Title => fg(68).add_modifier(Modifier::BOLD),
        Role::Dim => fg(244),
        Role::Good => fg(71),
        Role::Warn => fg(172),
        Role::Bad => fg(167),
        Role::New => fg(16).bg(Color::Indexed(114)),
        Role::Recent => fg(71).add_modifier(Modifier::BOLD),
        Role::Chosen => Style::new().add_modifier(Modifier::REVERSED),
        Role::Chassis => fg(252).bg(Color::Indexed(238)),
    }
}

fn monochrome(role: Role) -> Style {
    match role {
        Role::Border | Role::Dim => Style::new().add_modifier(Modifier::DIM),
        Role::Good => Style::new(),
        Role::Focus | Role::Title | Role::Warn | Role::Recent => Style::new().add_modifier(Modifier::BOLD),
        Role::Bad => Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
        Role::New | Role::Chosen | Role::Chassis => Style::new().add_modifier(Modifier::REVERSED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colours_there_is_none() {
        let roles = [
            Role::Border,
            Role::Focus,
            Role::Title,
            Role::Dim,
            Role::Good,
            Role::Warn,
            Role::Bad,
            Role::New,
            Role::Recent,
            Role::Chosen,
            Role::Chassis,
        ];
        for style in roles.map(|role| Theme::Monochrome.style(role)) {
            assert_eq!((style.fg, style.bg), (None, None));
        }
    }
}
