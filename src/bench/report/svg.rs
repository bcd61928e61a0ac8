//! Drawings as SVG text: rectangles, lines and words, all in pixels from the upper left corner.

use std::fmt::Write;

/// Words are drawn in the first of these that there is.
const FONTS: &str = "system-ui, 'Segoe UI', Roboto, Helvetica, Arial, 'DejaVu Sans', sans-serif";

/// A drawing on white.
#[derive(Debug)]
pub(super) struct Drawing {
    width: f64,
    height: f64,
    body: String,
}

/// Words stay legible where they cross a line.
const HALO: &str = "text{paint-order:stroke;stroke:#ffffff;stroke-width:3px;stroke-linejoin:round}";

/// Where something is: right and down from the corner.
pub(super) type Point = (f64, f64);

/// The pen of a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pen {
    pub(super) colour: &'static str,
    pub(super) width: f64,
    /// As `stroke-dasharray` has it; solid if empty.
    pub(super) dashes: &'static str,
}

/// Which end of the words is at their point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// How words look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    pub(super) size: f64,
    pub(super) colour: &'static str,
    pub(super) anchor: Anchor,
    pub(super) weight: Weight,
}

/// How heavy letters are.
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
    /// An empty one; `title` is for those who do not see it.
    pub(super) fn new(width: f64, height: f64, title: &str) -> Drawing {
        let body = format!(
            "<title>{}</title>\n<style>{HALO}</style>\n<rect width=\"{width:.0}\" height=\"{height:.0}\" fill=\"#ffffff\"/>\n",
            escaped(title)
        );
        Drawing { width, height, body }
    }

    /// What is put before the shapes: patterns to fill them with.
    pub(super) fn define(&mut self, definition: &str) {
        self.push(format_args!("<defs>{definition}</defs>"));
    }

    pub(super) fn rectangle(&mut self, corner: Point, size: (f64, f64), fill: &str) {
        let ((x, y), (width, height)) = (corner, size);
        self.push(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{fill}\"/>"
        ));
    }

    /// From point to point.
    pub(super) fn line(&mut self, points: &[Point], pen: &Pen) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.push(format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke-linejoin=\"round\" {}/>",
            points.join(" "),
            pen.attributes()
        ));
    }

    /// Words whose base line is at `at`.
    pub(super) fn text(&mut self, at: Point, words: &str, style: &Style) {
        self.words(at, "", words, style);
    }

    /// Words that are read from below, for the title of an vertical_text axis.
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
        // A string takes all that is written to it.
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

/// How wide words are, in pixels: somewhat more than in most fonts, as wide as in DejaVu Sans.
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

/// As text or the value of an attribute may be; XML has no place for control characters.
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
