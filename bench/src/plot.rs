//! Owns pictures: lines over two axes, as SVG.

use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
const COLOURS: [&str; 6] = ["#0b5fff", "#d9480f", "#2b8a3e", "#862e9c", "#495057", "#e0a800"];

/// Content of a picture.
pub(crate) struct Plot {
    /// Title above the picture.
    pub(crate) title: String,
    /// Label of the x axis.
    pub(crate) x_label: &'static str,
    /// Label of the y axis.
    pub(crate) y_label: &'static str,
    /// Names of equally spaced places along x.
    pub(crate) places: Vec<String>,
    /// Top of the y axis, which begins at 0.
    pub(crate) y_max: f64,
    /// Name of each line and its value at each place.
    pub(crate) lines: Vec<(String, Vec<f64>)>,
}

impl Plot {
    /// Returns the picture as an SVG document.
    pub(crate) fn svg(&self) -> String {
        let (inner_width, inner_height) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
        let x = |place: usize| LEFT + inner_width * place as f64 / (self.places.len().max(2) - 1) as f64;
        let y = |value: f64| TOP + inner_height * (1.0 - (value / self.y_max).clamp(0.0, 1.0));
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        // Writing to a String cannot fail.
        let mut text = |x: f64, y: f64, anchor: &str, words: &str| {
            let _ = writeln!(out, "<text x=\"{x:.0}\" y=\"{y:.0}\" text-anchor=\"{anchor}\">{words}</text>");
        };
        text(LEFT, 22.0, "start", &self.title);
        text(LEFT + inner_width / 2.0, HEIGHT - 8.0, "middle", self.x_label);
        text(LEFT - 4.0, TOP - 6.0, "end", self.y_label);
        for step in 0..=5 {
            let value = self.y_max * f64::from(step) / 5.0;
            text(LEFT - 6.0, y(value) + 4.0, "end", &format!("{value:.0}"));
        }
        self.places.iter().enumerate().for_each(|(i, place)| text(x(i), HEIGHT - BOTTOM + 18.0, "middle", place));
        for (i, (name, _)) in self.lines.iter().enumerate() {
            text(WIDTH - RIGHT + 34.0, TOP + 14.0 + 20.0 * i as f64, "start", name);
        }
        for step in 0..=5 {
            let level = y(self.y_max * f64::from(step) / 5.0);
            let end = LEFT + inner_width;
            let _ = writeln!(out, "<path d=\"M{LEFT} {level:.1}H{end}\" stroke=\"#dee2e6\"/>");
        }
        for (i, (_, values)) in self.lines.iter().enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            let points: Vec<_> = values.iter().enumerate().map(|(i, v)| format!("{:.1},{:.1}", x(i), y(*v))).collect();
            let points = points.join(" ");
            let _ =
                writeln!(out, "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>");
            let (from, level) = (WIDTH - RIGHT + 10.0, TOP + 10.0 + 20.0 * i as f64);
            let _ = writeln!(out, "<path d=\"M{from} {level}h18\" stroke=\"{colour}\" stroke-width=\"2\"/>");
        }
        out + "</svg>\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_and_place_is_in_the_picture() {
        let plot = Plot {
            title: "title".into(),
            x_label: "x",
            y_label: "y",
            places: vec!["left".into(), "right".into()],
            y_max: 10.0,
            lines: vec![("up".into(), vec![0.0, 10.0]), ("down".into(), vec![10.0, 0.0])],
        };
        let svg = plot.svg();
        for word in ["title", ">left<", ">right<", ">up<", ">down<", "60.0,350.0 570.0,40.0", "60.0,40.0 570.0,350.0"] {
            assert!(svg.contains(word), "{word}");
        }
    }
}
