//! SVG drawings of rectangles, lines and text, in pixels from the upper left corner.

use std::fmt::Write;

/// The first available font is used.
const FONTS: &str = "system-ui, 'Segoe UI', Roboto, Helvetica, Arial, 'DejaVu Sans', sans-serif";

/// A drawing on a white background.
#[derive(Debug)]
pub(super) struct Drawing {
    width: f64,
    height: f64,
    body: String,
}

/// A white outline keeps text legible where it crosses a line.
const HALO: &str = "text{paint-order:stroke;stroke:#ffffff;stroke-width:3px;stroke-linejoin:round}";

/// A position: right of and below the corner.
pub(super) type Point = (f64, f64);

/// Pen of a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pen {
    pub(super) colour: &'static str,
    pub(super) width: f64,
    /// Value of `stroke-dasharray`. Empty: solid.
    pub(super) dashes: &'static str,
}

/// Which end of a text is at its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// Style of a text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    pub(super) size: f64,
    pub(super) colour: &'static str,
    pub(super) anchor: Anchor,
    pub(super) weight: Weight,
}

/// Font weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    Regular,
    Bold,
}

impl Pen {
    pub(super) const fn solid(colour: &'static str, width: f64) -> Pen {
        Pen { colour, width, dashes: "" }
    }

    fn attributes(&self) -> String {
        let dashes = match self.dashes {
            "" => String::new(),
            dashes => format!(" stroke-dasharray=\"{dashes}\""),
        };
        format!("stroke=\"{}\" stroke-width=\"{}\"{dashes}", self.colour, self.width)
    }
}

impl Drawing {
    /// An empty drawing. `title` is for screen readers.
    pub(super) fn new(width: f64, height: f64, title: &str) -> Drawing {
        let body = format!(
            "<title>{}</title>\n<style>{HALO}</style>\n<rect width=\"{width:.0}\" height=\"{height:.0}\" fill=\"#ffffff\"/>\n",
            escaped(title)
        );
        Drawing { width, height, body }
    }

    /// Adds a definition, such as a fill pattern, before the shapes.
    pub(super) fn define(&mut self, definition: &str) {
        self.push(format_args!("<defs>{definition}</defs>"));
    }

    pub(super) fn rectangle(&mut self, corner: Point, size: (f64, f64), fill: &str) {
        let ((x, y), (width, height)) = (corner, size);
        self.push(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{fill}\"/>"
        ));
    }

    /// Draws a line through the points.
    pub(super) fn line(&mut self, points: &[Point], pen: &Pen) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.push(format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke-linejoin=\"round\" {}/>",
            points.join(" "),
            pen.attributes()
        ));
    }

    /// Draws text with its base line at `at`.
    pub(super) fn text(&mut self, at: Point, words: &str, style: &Style) {
        self.words(at, "", words, style);
    }

    /// Draws text that reads from bottom to top, for the title of a vertical axis.
    pub(super) fn vertical_text(&mut self, at: Point, words: &str, style: &Style) {
        let turn = format!(" transform=\"rotate(-90 {:.1} {:.1})\"", at.0, at.1);
        self.words(at, &turn, words, style);
    }

    fn words(&mut self, (x, y): Point, turn: &str, words: &str, style: &Style) {
        let anchor = match style.anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let weight = if style.weight == Weight::Bold { " font-weight=\"bold\"" } else { "" };
        let Style { size, colour, .. } = style;
        let words = escaped(words);
        self.push(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" fill=\"{colour}\" text-anchor=\"{anchor}\"{weight}{turn}>\
             {words}</text>"
        ));
    }

    fn push(&mut self, shape: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.body, "{shape}");
    }

    /// The whole file.
    pub(super) fn finish(self) -> String {
        let Drawing { width, height, body } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" font-family=\"{FONTS}\">\n{body}</svg>\n"
        )
    }
}

/// Approximate width of a text in pixels, as wide as in DejaVu Sans and wider than in most fonts.
pub(super) fn width(words: &str, style: &Style) -> f64 {
    let em = |letter: char| match letter {
        'i' | 'j' | 'l' | '.' | ',' | ':' | '\'' | ' ' | '|' => 0.32,
        'f' | 'r' | 't' | '-' | '(' | ')' | '[' | ']' | '/' => 0.42,
        'm' | 'w' | 'M' | 'W' | '%' | '~' => 0.95,
        letter if letter.is_uppercase() => 0.74,
        _ => 0.64,
    };
    let bold = if style.weight == Weight::Bold { 1.1 } else { 1.0 };
    words.chars().map(em).sum::<f64>() * style.size * bold
}

/// Escapes text for XML content and attributes. XML does not allow control characters.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            letter if letter.is_control() => escaped.push(' '),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_xml() {
        assert_eq!(escaped("a<b> & \"c\"\u{1b}[0m"), "a&lt;b&gt; &amp; &quot;c&quot; [0m");
    }
}
