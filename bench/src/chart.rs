//! The chart of the speed page: a bar for each ratio, a line where its target is.

use std::fmt::Write;

use crate::table::Table;

const LEFT: f64 = 330.0;
const WIDTH: f64 = 860.0;
const LINE: f64 = 22.0;

/// The table's ratios as SVG: how far each reaches towards its target.
pub(crate) fn chart(table: &Table) -> String {
    let rows: Vec<_> = table.rows.iter().filter_map(|row| Some((row, row.ratio?, row.target?))).collect();
    let scale = (WIDTH - LEFT - 60.0) / 2.0;
    let height = LINE * (rows.len() as f64 + 3.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<text x=\"10\" y=\"18\">Rate of duralog, as a part of its target; the whisker is from \
         quartile to quartile</text>\n"
    );
    for (index, (row, ratio, target)) in rows.iter().enumerate() {
        let y = LINE * (index as f64 + 1.5);
        let x = |ratio: f64| LEFT + (ratio / target).min(2.0) * scale;
        let name = format!("{}, {} B", row.workload, row.payload.unwrap_or_default());
        let colour = if row.meets() == Some(true) { "#2a7f62" } else { "#b5651d" };
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text><rect x=\"{LEFT}\" y=\"{y}\" width=\"{:.1}\" height=\"14\" \
             fill=\"{colour}\"/><line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{m}\" y2=\"{m}\" stroke=\"black\"/><text x=\"{:.1}\" \
             y=\"{}\">{:.2} of {target:.2}</text>",
            LEFT - 8.0,
            y + 12.0,
            name.replace('&', "&amp;").replace('<', "&lt;"),
            x(ratio.median) - LEFT,
            x(ratio.low),
            x(ratio.high),
            x(ratio.high) + 6.0,
            y + 12.0,
            ratio.median,
            m = y + 7.0,
        );
    }
    let (x, end) = (LEFT + scale, height - LINE * 1.2);
    let _ = writeln!(
        svg,
        "<line x1=\"{x}\" x2=\"{x}\" y1=\"{LINE}\" y2=\"{end}\" stroke=\"black\" stroke-dasharray=\"4\"/>"
    );
    let machine = table.machine.to_string().replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(svg, "<text x=\"10\" y=\"{}\">{machine}</text>\n</svg>", height - 8.0);
    svg
}
