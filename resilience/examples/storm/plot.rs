//! The plot: two panels over one axis of time, as SVG by hand.

use std::fmt::Write;

use crate::backend::CAPACITY;
use crate::simulation::{DEMAND, FAULT, LENGTH, Run, Second};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 640.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 840.0;
/// Colours that the colour-blind can tell apart (Okabe and Ito), and dashes for who prints without.
const LINES: [(&str, &str); 3] = [("#d55e00", "none"), ("#0072b2", "none"), ("#009e73", "7 3")];

/// One of the two diagrams.
struct Panel {
    title: &'static str,
    top: f64,
    bottom: f64,
    /// The value at the top.
    most: f64,
    step: usize,
    value: fn(&Second) -> u64,
    /// A level to compare with, and the second above which its name has room.
    mark: (f64, &'static str, f64),
}

/// All runs in one picture.
pub(crate) fn svg(runs: &[Run]) -> String {
    let panels = [
        Panel {
            title: "Calls that reach the backend, per second",
            top: 100.0,
            bottom: 330.0,
            most: 1400.0,
            step: 200,
            value: |second| second.tries,
            mark: (CAPACITY, "capacity", 5.0),
        },
        Panel {
            title: "Requests answered in time, per second",
            top: 390.0,
            bottom: 580.0,
            most: 500.0,
            step: 100,
            value: |second| second.answered,
            mark: (DEMAND as f64, "demand", 28.0),
        },
    ];
    let mut svg = head();
    legend(&mut svg, runs);
    for panel in &panels {
        panel.draw(&mut svg, runs);
    }
    let middle = f64::midpoint(LEFT, RIGHT);
    text(&mut svg, (middle, HEIGHT - 15.0), "middle", "seconds");
    svg.push_str("</svg>\n");
    svg
}

fn head() -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"13\" fill=\"#222\" role=\"img\">\n\
         <title>A retry storm with and without a budget</title>\n\
         <desc>Three tries for each request; the backend is four times slower for ten seconds.</desc>\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"30\" font-size=\"18\" font-weight=\"bold\">\
         A retry storm with and without a budget</text>\n"
    )
}

fn legend(svg: &mut String, runs: &[Run]) {
    let mut x = LEFT;
    for (run, (colour, dashes)) in runs.iter().zip(LINES) {
        let end = x + 30.0;
        line(
            svg,
            [(x, 54.0), (end, 54.0)],
            &format!("stroke=\"{colour}\" stroke-width=\"2.5\" stroke-dasharray=\"{dashes}\""),
        );
        text(svg, (end + 8.0, 58.0), "start", run.name);
        x += 170.0;
    }
}

fn x_of(second: f64) -> f64 {
    LEFT + second / LENGTH as f64 * (RIGHT - LEFT)
}

// === impl Panel ===

impl Panel {
    fn draw(&self, svg: &mut String, runs: &[Run]) {
        let Self { top, bottom, .. } = *self;
        let (start, end) = (x_of(FAULT.start as f64), x_of(FAULT.end as f64));
        let (width, height) = (end - start, bottom - top);
        let _to_a_string = writeln!(
            svg,
            "<rect x=\"{start:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{height}\" fill=\"#f0e6d6\"/>"
        );
        text(
            svg,
            (f64::midpoint(start, end), top + 16.0),
            "middle",
            "slow",
        );
        let _to_a_string = writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"{:.1}\" font-weight=\"bold\">{}</text>",
            top - 8.0,
            self.title
        );
        self.axes(svg);
        self.mark(svg);
        for (run, (colour, dashes)) in runs.iter().zip(LINES) {
            self.curve(svg, run, colour, dashes);
        }
    }

    fn y_of(&self, value: f64) -> f64 {
        self.bottom - value / self.most * (self.bottom - self.top)
    }

    fn axes(&self, svg: &mut String) {
        for value in (0..=self.most as usize).step_by(self.step) {
            let y = self.y_of(value as f64);
            let colour = if value == 0 { "#222" } else { "#ddd" };
            line(
                svg,
                [(LEFT, y), (RIGHT, y)],
                &format!("stroke=\"{colour}\""),
            );
            text(svg, (LEFT - 8.0, y + 4.0), "end", &value.to_string());
        }
        line(
            svg,
            [(LEFT, self.top), (LEFT, self.bottom)],
            "stroke=\"#222\"",
        );
        for second in (0..=LENGTH).step_by(10) {
            let x = x_of(second as f64);
            let tick = [(x, self.bottom), (x, self.bottom + 5.0)];
            line(svg, tick, "stroke=\"#222\"");
            text(svg, (x, self.bottom + 20.0), "middle", &second.to_string());
        }
    }

    fn mark(&self, svg: &mut String) {
        let (value, name, second) = self.mark;
        let y = self.y_of(value);
        let style = "stroke=\"#555\" stroke-dasharray=\"2 4\"";
        line(svg, [(LEFT, y), (RIGHT, y)], style);
        text(svg, (x_of(second), y - 5.0), "middle", name);
    }

    fn curve(&self, svg: &mut String, run: &Run, colour: &str, dashes: &str) {
        svg.push_str("<polyline points=\"");
        for (second, seen) in run.seconds.iter().enumerate() {
            let (x, y) = (
                x_of(second as f64 + 0.5),
                self.y_of((self.value)(seen) as f64),
            );
            let _to_a_string = write!(svg, "{x:.1},{y:.1} ");
        }
        let _to_a_string = writeln!(
            svg,
            "\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-linejoin=\"round\" \
             stroke-dasharray=\"{dashes}\"/>"
        );
    }
}

fn line(svg: &mut String, [(x1, y1), (x2, y2)]: [(f64, f64); 2], style: &str) {
    let _to_a_string = writeln!(
        svg,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {style}/>"
    );
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, what: &str) {
    let _to_a_string = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{what}</text>"
    );
}
