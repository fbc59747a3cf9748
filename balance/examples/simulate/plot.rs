//! The plot: bars for the policies, lines for the slow start. It is text, so that a change of it can be read.

use std::fmt::Write;

use super::model::Outcome;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 520.0;
const LEFT: f64 = 130.0;

/// p99 by policy with one slow endpoint, and p99 by second as a cold endpoint joins.
pub(crate) fn svg(slow: &[(&str, Outcome)], cold: &[(&str, Outcome)]) -> String {
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    text(
        &mut out,
        (LEFT, 24.0),
        "p99 latency, one of ten endpoints five times slower",
    );
    bars(&mut out, slow);
    text(
        &mut out,
        (LEFT, 264.0),
        "p99 latency by second; a cold endpoint joins at 20 s (round_robin)",
    );
    lines(&mut out, cold);
    out += "</svg>\n";
    out
}

fn text(out: &mut String, (x, y): (f64, f64), what: &str) {
    let _ = writeln!(out, "<text x=\"{x:.0}\" y=\"{y:.0}\">{what}</text>");
}

fn bars(out: &mut String, slow: &[(&str, Outcome)]) {
    let most = slow
        .iter()
        .map(|(_, one)| one.quantile(0.99))
        .fold(1.0, f64::max);
    for (row, (name, outcome)) in slow.iter().enumerate() {
        let (y, p99) = (40.0 + 32.0 * row as f64, outcome.quantile(0.99));
        let width = (WIDTH - LEFT - 110.0) * p99 / most;
        text(out, (12.0, y + 16.0), name);
        let _ = writeln!(
            out,
            "<rect x=\"{LEFT}\" y=\"{y:.0}\" width=\"{width:.1}\" height=\"22\" fill=\"#3b6ea5\"/>"
        );
        text(out, (LEFT + width + 8.0, y + 16.0), &format!("{p99:.0} ms"));
    }
}

fn lines(out: &mut String, cold: &[(&str, Outcome)]) {
    const COLOURS: [&str; 2] = ["#b5483a", "#3b6ea5"];
    let (top, bottom) = (284.0, 480.0);
    let seconds = 15..45_u64;
    let at = |outcome: &Outcome, second: u64| outcome.quantile_between(second..second + 1, 0.99);
    let values = cold
        .iter()
        .flat_map(|(_, one)| seconds.clone().map(move |s| at(one, s)));
    let most = values.fold(1.0, f64::max);
    let x = |second: u64| LEFT + (WIDTH - LEFT - 40.0) * (second - 15) as f64 / 30.0;
    let y = |value: f64| bottom - (bottom - top) * value / most;
    for (row, ((name, outcome), colour)) in cold.iter().zip(COLOURS).enumerate() {
        let points = seconds
            .clone()
            .map(|s| format!("{:.1},{:.1}", x(s), y(at(outcome, s))));
        let points: Vec<String> = points.collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            points.join(" ")
        );
        let _ = writeln!(
            out,
            "<text x=\"{:.0}\" y=\"{:.0}\" fill=\"{colour}\">slow_start {name}</text>",
            WIDTH - 180.0,
            top + 20.0 * (row as f64 + 1.0)
        );
    }
    text(out, (12.0, top + 8.0), &format!("{most:.0} ms"));
    text(out, (12.0, bottom), "0 ms");
    for second in [15, 20, 25, 30, 35, 40] {
        text(
            out,
            (x(second) - 8.0, bottom + 20.0),
            &format!("{second} s"),
        );
    }
}
