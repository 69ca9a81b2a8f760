//! Charts as SVG.

use std::fmt::Write;

use crate::report::{median, number};

/// A row of a chart.
pub(crate) struct Bar {
    pub(crate) name: &'static str,
    /// Sorted.
    pub(crate) values: Vec<f64>,
}

/// A chart of medians with their spread, on a scale from zero.
pub(crate) fn bars(title: &str, bars: &[Bar]) -> String {
    let most = bars.iter().filter_map(|bar| bar.values.last()).fold(f64::MIN_POSITIVE, |a, b| a.max(*b));
    let scale = BAR_WIDTH / most;
    let height = TOP + bars.len() * STEP + 8;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"#333\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"8\" y=\"20\" font-size=\"15\" font-weight=\"600\">{title}</text>\n"
    );
    for (row, bar) in bars.iter().enumerate() {
        let (Some(least), Some(most)) = (bar.values.first(), bar.values.last()) else { continue };
        let middle = median(&bar.values);
        let (top, centre) = (TOP + row * STEP, TOP + row * STEP + STEP / 2 - 3);
        let colour =
            if bar.name.starts_with("nginx") || bar.name == "direct" { "#9aa5b1" } else { "#2f6fab" };
        let (from, to) = (LEFT + least * scale, LEFT + most * scale);
        write!(
            svg,
            "<text x=\"8\" y=\"{}\">{}</text>\n\
             <rect x=\"{LEFT}\" y=\"{top}\" width=\"{:.1}\" height=\"{}\" fill=\"{colour}\"/>\n\
             <path d=\"M{from:.1} {centre}H{to:.1}\" stroke=\"#111\" stroke-width=\"2\"/>\n\
             <text x=\"{:.1}\" y=\"{}\">{}</text>\n",
            centre + 5,
            bar.name,
            middle * scale,
            STEP - 6,
            to + 6.0,
            centre + 5,
            number(middle),
        )
        .expect("a string takes everything");
    }
    svg.push_str("</svg>\n");
    svg
}

/// A curve through `points`, on scales from zero.
pub(crate) fn line(title: &str, points: &[(f64, f64)]) -> String {
    let most = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).fold(f64::MIN_POSITIVE, f64::max);
    let (most_x, most_y) = (most(|point| point.0), most(|point| point.1));
    let path: String = points
        .iter()
        .map(|(x, y)| format!("{:.1},{:.1} ", 60.0 + x / most_x * 660.0, 260.0 - y / most_y * 210.0))
        .collect();
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"290\" viewBox=\"0 0 {WIDTH} 290\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"#333\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"8\" y=\"20\" font-size=\"15\" font-weight=\"600\">{title}</text>\n\
         <path d=\"M60 50V260H720\" fill=\"none\" stroke=\"#9aa5b1\"/>\n\
         <text x=\"8\" y=\"55\">{}</text>\n<text x=\"700\" y=\"280\">{}</text>\n\
         <polyline points=\"{path}\" fill=\"none\" stroke=\"#2f6fab\" stroke-width=\"2\"/>\n</svg>\n",
        number(most_y),
        number(most_x),
    )
}

const WIDTH: usize = 760;
const LEFT: f64 = 200.0;
const BAR_WIDTH: f64 = 480.0;
const TOP: usize = 36;
const STEP: usize = 28;
