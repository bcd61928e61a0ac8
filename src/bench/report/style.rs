//! Common style of all charts: colours, fonts, margins. The colours are Okabe and Ito's palette, which is
//! distinguishable with any kind of colour vision. Line charts also use dashes.

use super::svg::{Anchor, Drawing, Pen, Point, Style, Weight};
use crate::bench::results::{BASELINE, SUBJECT};

/// Width of a chart in pixels: the width that repository pages show without scaling.
pub(super) const WIDTH: f64 = 960.0;
/// Margin around a chart, in pixels.
pub(super) const MARGIN: f64 = 24.0;
/// Height of title and subtitle, in pixels.
pub(super) const HEADER_HEIGHT: f64 = 74.0;

const TEXT_COLOUR: &str = "#1f2328";
const PALE_COLOUR: &str = "#59636e";

pub(super) const GRID: Pen = Pen::solid("#e6e8eb", 1.0);
pub(super) const AXIS: Pen = Pen::solid("#8c959f", 1.0);
pub(super) const WHISKER: Pen = Pen::solid(TEXT_COLOUR, 1.2);
pub(super) const REFERENCE: Pen = Pen { colour: "#8c959f", width: 1.2, dashes: "3 3" };

pub(super) const LABEL: Style =
    Style { size: 12.0, colour: TEXT_COLOUR, anchor: Anchor::Start, weight: Weight::Regular };
pub(super) const TICK: Style =
    Style { size: 11.0, colour: PALE_COLOUR, anchor: Anchor::Middle, weight: Weight::Regular };
pub(super) const PANEL_TITLE: Style = Style { size: 13.0, weight: Weight::Bold, ..LABEL };
const TITLE: Style = Style { size: 19.0, weight: Weight::Bold, ..LABEL };
const SUBTITLE: Style = Style { size: 12.5, colour: PALE_COLOUR, ..LABEL };

/// Style of a peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct PeerStyle {
    /// Pen of its line.
    pub(super) pen: Pen,
    /// Colour of its bar.
    pub(super) fill: &'static str,
}

const SUBJECT_STYLE: PeerStyle = PeerStyle { pen: Pen::solid("#0072b2", 3.2), fill: "#0072b2" };
const BASELINE_STYLE: PeerStyle = PeerStyle { pen: Pen::solid("#6e7781", 2.2), fill: "#6e7781" };

/// Paler bars than the subject's.
const OTHER_STYLES: [PeerStyle; 6] = [
    other("#e69f00", "7 3", "#f0c566"),
    other("#009e73", "2 3", "#66c5ab"),
    other("#cc79a7", "9 3 2 3", "#e0afca"),
    other("#d55e00", "5 2", "#e69e66"),
    other("#56b4e9", "3 2", "#9ad2f2"),
    other("#8a7a00", "9 3 2 3 2 3", "#b9af66"),
];

const fn other(colour: &'static str, dashes: &'static str, fill: &'static str) -> PeerStyle {
    PeerStyle { pen: Pen { colour, width: 1.8, dashes }, fill }
}

/// Style of a peer, by its position in `peers`. The styles repeat if there are more peers.
pub(super) fn peer_style(peers: &[String], peer: usize) -> PeerStyle {
    let before = peers.iter().take(peer).filter(|peer| *peer != SUBJECT && *peer != BASELINE).count();
    match peers.get(peer).map(String::as_str) {
        Some(SUBJECT) => SUBJECT_STYLE,
        Some(BASELINE) => BASELINE_STYLE,
        _ => OTHER_STYLES[before % OTHER_STYLES.len()],
    }
}

/// Style of a peer's name: bold for the subject.
pub(super) fn name_style(peer: &str, anchor: Anchor) -> Style {
    let weight = if peer == SUBJECT { Weight::Bold } else { Weight::Regular };
    Style { anchor, weight, ..LABEL }
}

/// An empty chart with its title.
pub(super) fn new_chart(height: f64, title: &str, subtitle: &str) -> Drawing {
    let mut drawing = Drawing::new(WIDTH, height, title);
    drawing.text((MARGIN, 34.0), title, &TITLE);
    drawing.text((MARGIN, 54.0), subtitle, &SUBTITLE);
    drawing
}

/// Draws a vertical line.
pub(super) fn vertical_line(drawing: &mut Drawing, (x, top): Point, height: f64, pen: &Pen) {
    drawing.line(&[(x, top), (x, top + height)], pen);
}
