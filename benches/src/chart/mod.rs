//! Charts as SVG, drawn here: plain, on a white ground, so that they can be read wherever a README is.

mod panels;

use std::fmt::Write as _;

pub use panels::panels;

/// One colour for each line or bar, told apart without seeing red and green as different.
const COLOURS: [&str; 8] =
    ["#0b62a4", "#d1600f", "#1a8a5a", "#8a3fa0", "#b08a00", "#c2305a", "#4a4a4a", "#2aa3b8"];

const WIDTH: f64 = 760.0;
const FONT: &str = "font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\"";

/// A line: its name, and its points.
#[derive(Debug, Clone)]
pub struct Line {
    /// For the legend.
    pub name: String,
    /// Places along the axis and values; values have to be above 0.
    pub points: Vec<(f64, f64)>,
}

/// What a chart of lines says about its axes.
#[derive(Debug, Clone)]
pub struct Axes<'a> {
    /// Above all.
    pub title: &'a str,
    /// Below the axis.
    pub across: &'a str,
    /// Beside the axis.
    pub up: &'a str,
    /// Places along the axis that are named.
    pub ticks: Vec<(f64, String)>,
    /// How values go up.
    pub scale: Scale,
}

/// How values go up a chart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// From 0, in equal steps.
    Linear,
    /// By decades, for what differs a hundredfold.
    Logarithmic,
}

/// Where a value stands between the foot of a plot (0) and its top (1), and the values that are named.
struct Up {
    scale: Scale,
    least: f64,
    most: f64,
    step: f64,
}

impl Up {
    /// In about so many steps where it is linear; none where there is no value.
    fn of(scale: Scale, steps: u32, values: impl Iterator<Item = f64>) -> Option<Self> {
        let (least, most) = values
            .filter(|value| value.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| {
                (least.min(value), most.max(value))
            });
        if !least.is_finite() {
            return None;
        }
        Some(match scale {
            Scale::Linear => {
                let step = step_of(most, steps);
                Up { scale, least: 0.0, most: (most / step).ceil().max(1.0) * step, step }
            }
            Scale::Logarithmic => {
                let decade = |value: f64| value.max(0.1).log10();
                let least = decade(least).floor();
                Up { scale, least, most: decade(most).ceil().max(least + 1.0), step: 1.0 }
            }
        })
    }

    fn place(&self, value: f64) -> f64 {
        let value = if self.scale == Scale::Linear { value } else { value.max(0.1).log10() };
        (value - self.least) / (self.most - self.least)
    }

    /// From the foot to the top.
    fn named(&self) -> impl Iterator<Item = f64> + '_ {
        let count = ((self.most - self.least) / self.step).round() as u32;
        (0..=count).map(|index| {
            let place = self.least + f64::from(index) * self.step;
            if self.scale == Scale::Linear { place } else { 10_f64.powf(place) }
        })
    }

    /// Between a named value and the next.
    fn between(&self, value: f64) -> impl Iterator<Item = f64> {
        let steps = if self.scale == Scale::Linear { 2..2 } else { 2..10 };
        steps.map(move |step| value * f64::from(step))
    }
}

/// 1, 2 or 5 times a power of ten, of which at most so many reach the most.
fn step_of(most: f64, steps: u32) -> f64 {
    let rough = (most / f64::from(steps)).max(f64::MIN_POSITIVE);
    let decade = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0].map(|step| step * decade).into_iter().find(|step| *step >= rough).unwrap_or(10.0 * decade)
}

/// Lines over an axis.
pub fn lines(axes: &Axes<'_>, lines: &[Line]) -> String {
    let (left, right, top) = (70.0, 30.0, 46.0);
    let plot_height = 300.0;
    let legend_rows = lines.len().div_ceil(2) as f64;
    let height = top + plot_height + 56.0 + legend_rows * 20.0;
    let plot_width = WIDTH - left - right;
    let values = lines.iter().flat_map(|line| line.points.iter().map(|point| point.1));
    let Some(up) = Up::of(axes.scale, 5, values) else { return empty(axes.title) };
    let first = axes.ticks.first().map_or(0.0, |tick| tick.0);
    let last = axes.ticks.last().map_or(1.0, |tick| tick.0).max(first + f64::EPSILON);
    let x = |place: f64| left + 14.0 + (place - first) / (last - first) * (plot_width - 28.0);
    let y = |value: f64| top + plot_height - up.place(value) * plot_height;
    let mut svg = begin(height, axes.title);
    for value in up.named() {
        rule(&mut svg, left, WIDTH - right, y(value), "#d8d8d8");
        text(&mut svg, left - 8.0, y(value) + 4.0, "end", 12, &shortly(value));
        if y(value) > top + 1.0 {
            up.between(value).for_each(|value| rule(&mut svg, left, WIDTH - right, y(value), "#f3f3f3"));
        }
    }
    for (place, name) in &axes.ticks {
        let x = x(*place);
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" y1=\"{top}\" x2=\"{x:.1}\" y2=\"{:.1}\" stroke=\"#e6e6e6\"/>",
            top + plot_height
        );
        text(&mut svg, x, top + plot_height + 18.0, "middle", 12, name);
    }
    text(&mut svg, left + plot_width / 2.0, top + plot_height + 38.0, "middle", 12, axes.across);
    let _ = writeln!(
        svg,
        "<text x=\"16\" y=\"{:.1}\" transform=\"rotate(-90 16 {:.1})\" text-anchor=\"middle\" font-size=\"12\" \
         {FONT} fill=\"#333\">{}</text>",
        top + plot_height / 2.0,
        top + plot_height / 2.0,
        escaped(axes.up)
    );
    for (index, line) in lines.iter().enumerate() {
        let points_known = || line.points.iter().filter(|(_, value)| value.is_finite());
        let colour = COLOURS[index % COLOURS.len()];
        let points: Vec<String> =
            points_known().map(|(place, value)| format!("{:.1},{:.1}", x(*place), y(*value))).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-linejoin=\"round\"/>",
            points.join(" ")
        );
        for (place, value) in points_known() {
            let _ = writeln!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>",
                x(*place),
                y(*value)
            );
        }
        let legend_x = left + (index % 2) as f64 * plot_width / 2.0;
        let legend_y = top + plot_height + 58.0 + (index / 2) as f64 * 20.0;
        let _ = writeln!(
            svg,
            "<rect x=\"{legend_x:.1}\" y=\"{:.1}\" width=\"14\" height=\"4\" fill=\"{colour}\"/>",
            legend_y - 6.0
        );
        text(&mut svg, legend_x + 20.0, legend_y, "start", 12, &line.name);
    }
    svg.push_str("</svg>\n");
    svg
}

/// A bar: its name, its value, and from where to where it moved.
#[derive(Debug, Clone)]
pub struct Bar {
    /// Beside it.
    pub name: String,
    /// How long it is; above 0.
    pub value: f64,
    /// The least and the most.
    pub range: (f64, f64),
    /// Whether it stands out.
    pub stands_out: bool,
}

/// Horizontal bars; on a logarithmic scale where their lengths differ too much for one that is not.
pub fn bars(title: &str, unit: &str, note: &str, bars: &[Bar]) -> String {
    let bars: Vec<&Bar> = bars.iter().filter(|bar| bar.value.is_finite() && bar.value > 0.0).collect();
    let least = bars.iter().map(|bar| bar.value).fold(f64::INFINITY, f64::min);
    let most = bars.iter().map(|bar| bar.range.1.max(bar.value)).fold(0.0, f64::max);
    if bars.is_empty() || most <= 0.0 {
        return empty(title);
    }
    let is_logarithmic = most / least > 30.0;
    let longest_name = bars.iter().map(|bar| bar.name.chars().count()).max().unwrap_or(0) as f64;
    let (left, right, top, row) = ((longest_name * 7.2 + 26.0).min(330.0), 96.0, 46.0, 24.0);
    let height = top + bars.len() as f64 * row + 40.0;
    let width = WIDTH - left - right;
    let (low, high) = if is_logarithmic { (least.log10().floor(), most.log10()) } else { (0.0, most) };
    let scaled = |value: f64| if is_logarithmic { value.max(least / 10.0).log10() } else { value };
    let length = |value: f64| ((scaled(value) - low) / (high - low) * width).clamp(1.0, width);
    let mut svg = begin(height, title);
    if is_logarithmic {
        for decade in low as i32..=high.floor() as i32 {
            let x = left + length(10_f64.powi(decade));
            let end = top + bars.len() as f64 * row;
            let _ = writeln!(
                svg,
                "<line x1=\"{x:.1}\" y1=\"{top}\" x2=\"{x:.1}\" y2=\"{end:.1}\" stroke=\"#e0e0e0\"/>"
            );
            text(&mut svg, x, end + 14.0, "middle", 11, &shortly(10_f64.powi(decade)));
        }
    }
    for (index, bar) in bars.iter().enumerate() {
        let y = top + index as f64 * row;
        text(&mut svg, left - 8.0, y + 15.0, "end", 12, &bar.name);
        let colour = if bar.stands_out { COLOURS[1] } else { COLOURS[0] };
        let _ = writeln!(
            svg,
            "<rect x=\"{left:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>",
            y + 4.0,
            length(bar.value),
            row - 8.0
        );
        let (from, to) = (left + length(bar.range.0), left + length(bar.range.1));
        let _ = writeln!(
            svg,
            "<line x1=\"{from:.1}\" y1=\"{0:.1}\" x2=\"{to:.1}\" y2=\"{0:.1}\" stroke=\"#111\" stroke-width=\"1.5\"/>",
            y + row / 2.0
        );
        let behind = left + length(bar.value.max(bar.range.1)) + 6.0;
        text(&mut svg, behind, y + 16.0, "start", 12, &shortly(bar.value));
    }
    let scale = if is_logarithmic { ", logarithmic scale" } else { "" };
    let foot = format!("{unit}{scale}; {note}");
    text(&mut svg, 16.0, height - 8.0, "start", 11, &foot);
    svg.push_str("</svg>\n");
    svg
}

/// A number as short as it can be read: 1.2 million, 345,000, 0.262.
pub fn shortly(value: f64) -> String {
    match value {
        value if value >= 999_500.0 => format!("{} M", trimmed(value / 1e6)),
        value if value >= 999.5 => format!("{} k", trimmed(value / 1e3)),
        value => trimmed(value),
    }
}

/// Three digits that count, without zeros behind the point.
fn trimmed(value: f64) -> String {
    let digits = match value {
        value if value >= 99.5 => 0,
        value if value >= 9.95 => 1,
        value if value >= 0.995 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn begin(height: f64, title: &str) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" width=\"{WIDTH}\" \
         height=\"{height:.0}\" role=\"img\">\n<title>{}</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
        escaped(title)
    );
    let _ = writeln!(
        svg,
        "<text x=\"16\" y=\"26\" font-size=\"15\" font-weight=\"bold\" {FONT} fill=\"#111\">{}</text>",
        escaped(title)
    );
    svg
}

fn empty(title: &str) -> String {
    let mut svg = begin(80.0, title);
    text(&mut svg, 16.0, 56.0, "start", 12, "nothing was measured");
    svg.push_str("</svg>\n");
    svg
}

fn rule(svg: &mut String, from: f64, to: f64, y: f64, colour: &str) {
    let _ = writeln!(
        svg,
        "<line x1=\"{from:.1}\" y1=\"{y:.1}\" x2=\"{to:.1}\" y2=\"{y:.1}\" stroke=\"{colour}\"/>"
    );
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, size: u32, what: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\" {FONT} fill=\"#333\">{}</text>",
        escaped(what)
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let cases = [
            (3_790_000.0, "3.79 M"),
            (345_000.0, "345 k"),
            (1_000.0, "1 k"),
            (0.262, "0.262"),
            (42.0, "42"),
            (999_999.0, "1 M"),
        ];
        for (value, expected) in cases {
            assert_eq!(shortly(value), expected);
        }
    }

    #[test]
    fn a_scale_reaches_from_its_first_name_to_its_last() {
        let up = Up::of(Scale::Linear, 5, [0.31, 0.84].into_iter()).unwrap();
        assert_eq!(up.named().map(shortly).collect::<Vec<_>>(), ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
        assert_eq!((up.place(0.0), up.place(0.5)), (0.0, 0.5));
        let up = Up::of(Scale::Logarithmic, 5, [42.0, 900.0].into_iter()).unwrap();
        assert_eq!(up.named().map(f64::round).collect::<Vec<_>>(), [10.0, 100.0, 1_000.0]);
        assert!(Up::of(Scale::Linear, 5, std::iter::empty()).is_none());
    }

    #[test]
    fn names_cannot_break_the_file() {
        let bar = Bar { name: "<a&b>".into(), value: 1.0, range: (0.5, 2.0), stands_out: true };
        let svg = bars("t", "µs", "", &[bar]);
        assert!(svg.contains("&lt;a&amp;b&gt;") && !svg.contains("<a&"));
    }

    #[test]
    fn nothing_measured_is_no_broken_picture() {
        let axes = Axes { title: "t", across: "", up: "", ticks: Vec::new(), scale: Scale::Linear };
        assert!(lines(&axes, &[]).contains("nothing was measured"));
        assert!(bars("t", "", "", &[]).contains("nothing was measured"));
        assert!(panels("t", "", &[]).contains("nothing was measured"));
    }
}
