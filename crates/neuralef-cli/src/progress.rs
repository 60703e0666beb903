//! What a person (a bar) or a program (JSON lines) sees while a fit runs.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use neuralef::Observer;
use neuralef::train::{Control, Event};
use serde_json::json;

use crate::args::Progress;
use crate::interrupt::Interrupt;

/// Time between two updates of the bar or two JSON lines of steps.
const INTERVAL: Duration = Duration::from_millis(200);

/// Shows progress on standard error and passes Ctrl-C on to the fit.
pub(crate) struct Display {
    sink: Sink,
    interrupt: Interrupt,
    last: Option<Instant>,
}

enum Sink {
    Bar(ProgressBar),
    Json,
    Silent,
}

impl Display {
    /// As `progress` asks.
    pub(crate) fn new(progress: Progress, interrupt: Interrupt) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let sink = match progress {
            Progress::Json => Sink::Json,
            Progress::Auto if terminal => Sink::Bar(bar()),
            _ => Sink::Silent,
        };
        Display { sink, interrupt, last: None }
    }

    /// Clears the bar.
    pub(crate) fn finish(&self) {
        if let Sink::Bar(bar) = &self.sink {
            bar.finish_and_clear();
        }
    }

    /// Whether enough time has passed since the last update; the first is always due.
    fn due(&mut self) -> bool {
        let due = self.last.is_none_or(|last| last.elapsed() >= INTERVAL);
        if due {
            self.last = Some(Instant::now());
        }
        due
    }

    fn show(&mut self, event: &Event<'_>) {
        if matches!(event, Event::Step { .. } | Event::Progress { .. }) && !self.due() {
            return;
        }
        match &self.sink {
            Sink::Bar(bar) => draw(bar, event),
            Sink::Json => print(event),
            Sink::Silent => {}
        }
    }
}

impl Observer for Display {
    fn observe(&mut self, event: &Event<'_>) -> Control {
        self.show(event);
        if self.interrupt.raised() { Control::Stop } else { Control::Continue }
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
    let template = "{prefix:>11} {wide_bar:.cyan/dim} {pos}/{len} {per_sec} eta {eta}  {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━╸─"));
    }
    bar
}

fn draw(bar: &ProgressBar, event: &Event<'_>) {
    match event {
        Event::Phase { name } => {
            bar.set_prefix(*name);
            bar.set_message("");
            bar.tick();
        }
        Event::Training { from, total } => {
            bar.set_prefix("training");
            bar.set_length(*total);
            bar.set_position(*from);
        }
        Event::Step { step, loss, eigenvalues } => {
            bar.set_prefix("training");
            bar.set_position(*step);
            let first: Vec<String> =
                eigenvalues.iter().take(3).map(|m| format!("{m:.3e}")).collect();
            let eigenvalues = match first.len() {
                0 => String::new(),
                _ => format!("  μ {}", first.join(" ")),
            };
            bar.set_message(format!("loss {loss:.4}{eigenvalues}"));
        }
        Event::Progress { done, total } => {
            bar.set_length(*total as u64);
            bar.set_position(*done as u64);
        }
        Event::Trial { done, total, what } => {
            bar.set_prefix("comparing");
            bar.set_length(*total as u64);
            bar.set_position(*done as u64);
            bar.set_message((*what).to_string());
        }
        Event::AutoCheck { step, residual } => {
            bar.println(format!("after {step} steps: held-out residual {residual:.4}"));
        }
        Event::Warning { message } => bar.println(format!("warning: {message}")),
        _ => {}
    }
}

fn print(event: &Event<'_>) {
    let line = match event {
        Event::Phase { name } => json!({"event": "phase", "name": name}),
        Event::Training { from, total } => {
            json!({"event": "training", "from": from, "total": total})
        }
        Event::Step { step, loss, eigenvalues } => {
            json!({"event": "step", "step": step, "loss": loss, "eigenvalues": eigenvalues})
        }
        Event::Progress { done, total } => {
            json!({"event": "progress", "done": done, "total": total})
        }
        Event::Trial { done, total, what } => {
            json!({"event": "trial", "done": done, "total": total, "what": what})
        }
        Event::Checkpoint { step, path } => {
            json!({"event": "checkpoint", "step": step, "path": path.to_string_lossy()})
        }
        Event::AutoCheck { step, residual } => {
            json!({"event": "auto_check", "step": step, "residual": residual})
        }
        Event::Warning { message } => json!({"event": "warning", "message": message}),
        _ => return,
    };
    // A reader that went away is no reason to lose the fit.
    let _ = writeln!(std::io::stderr(), "{line}");
}
