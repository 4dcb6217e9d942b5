//! Several figures over the same axis, each with its own scale, under each other.

use std::fmt::Write as _;

use super::{COLOURS, Line, Scale, Up, WIDTH, begin, empty, rule, shortly, step_of, text};

const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const PLOT_HEIGHT: f64 = 110.0;
/// From a plot's top to the next one's: its name stands between.
const ROW: f64 = PLOT_HEIGHT + 42.0;
const TOP: f64 = 68.0;
/// Names beside a plot, which is lower than one that stands alone.
const STEPS: u32 = 3;

/// One plot for each line, from 0 up; the axis across starts at 0, too.
pub fn panels(title: &str, across: &str, panels: &[Line]) -> String {
    let last = panels.iter().flat_map(|line| line.points.iter().map(|point| point.0)).fold(0.0, f64::max);
    if last <= 0.0 {
        return empty(title);
    }
    let x = |place: f64| LEFT + place / last * (WIDTH - LEFT - RIGHT);
    let height = TOP + ROW * panels.len() as f64 + 20.0;
    let mut svg = begin(height, title);
    for (index, line) in panels.iter().enumerate() {
        let top = TOP + index as f64 * ROW;
        text(&mut svg, LEFT, top - 8.0, "start", 12, &line.name);
        let Some(up) = Up::of(Scale::Linear, STEPS, line.points.iter().map(|point| point.1)) else {
            continue;
        };
        let y = |value: f64| top + PLOT_HEIGHT - up.place(value) * PLOT_HEIGHT;
        for value in up.named() {
            rule(&mut svg, LEFT, WIDTH - RIGHT, y(value), "#d8d8d8");
            text(&mut svg, LEFT - 8.0, y(value) + 4.0, "end", 12, &shortly(value));
        }
        let points: Vec<String> =
            line.points.iter().map(|(place, value)| format!("{:.1},{:.1}", x(*place), y(*value))).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\" stroke-linejoin=\"round\"/>",
            points.join(" "),
            COLOURS[index % COLOURS.len()]
        );
    }
    let foot = TOP + (panels.len() - 1) as f64 * ROW + PLOT_HEIGHT;
    let step = step_of(last, 8);
    for index in 0..=(last / step) as u32 {
        let place = f64::from(index) * step;
        text(&mut svg, x(place), foot + 18.0, "middle", 12, &shortly(place));
    }
    text(&mut svg, LEFT + (WIDTH - LEFT - RIGHT) / 2.0, foot + 38.0, "middle", 12, across);
    svg.push_str("</svg>\n");
    svg
}
