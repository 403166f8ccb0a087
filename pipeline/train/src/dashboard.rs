//! burn-train's terminal dashboard, fed by our own loop.

use std::io::IsTerminal;
use std::sync::Arc;

use burn_train::Interrupter;
use burn_train::metric::{MetricDefinition, MetricEntry, MetricId, NumericAttributes, NumericEntry, SerializedEntry};
use burn_train::renderer::{MetricState, MetricsRenderer, tui::TuiMetricsRendererWrapper};

use crate::metrics::MetricsRow;

/// What is charted, with its unit and split.
const CHARTS: [(&str, Option<&str>); 3] =
    [("Loss", Some("nats")), ("Gradient norm", None), ("Held out", Some("bits/byte"))];

/// Live charts of a run.
pub(crate) struct Dashboard {
    renderer: Box<dyn MetricsRenderer>,
    interrupter: Interrupter,
}

impl Dashboard {
    /// A dashboard for `max_steps` steps, `None` where stdout is not a terminal: burn-train's other renderer prints
    /// to stdout, which is for data.
    pub(crate) fn open(stage: &str, max_steps: usize) -> Option<Self> {
        if !std::io::stdout().is_terminal() {
            return None;
        }
        let interrupter = Interrupter::new();
        let mut renderer: Box<dyn MetricsRenderer> =
            Box::new(TuiMetricsRendererWrapper::new(interrupter.clone(), None));
        for (name, unit) in CHARTS {
            let attributes = NumericAttributes { unit: unit.map(str::to_owned), higher_is_better: false };
            renderer.register_metric(MetricDefinition {
                metric_id: metric_id(name),
                name: Arc::new(name.to_owned()),
                description: None,
                attributes: attributes.into(),
            });
        }
        renderer.start(1, 1, Some(max_steps), Some(stage));
        renderer.start_split("train", max_steps);
        Some(Self { renderer, interrupter })
    }

    /// Draws a step.
    pub(crate) fn update(&mut self, row: &MetricsRow) {
        let values = [Some(f64::from(row.loss_nats)), Some(f64::from(row.grad_norm)), row.valid_bits_per_byte];
        for ((name, _), value) in CHARTS.into_iter().zip(values) {
            let Some(value) = value else { continue };
            let text = SerializedEntry::new(format!("{value:.4}"), value.to_string());
            let entry = MetricEntry::new(metric_id(name), text);
            self.renderer.update_train(MetricState::Numeric(entry, Some(NumericEntry::Value(value))));
        }
        self.renderer.update_split(row.step as usize);
    }

    /// Whether the user asked for a stop in the dashboard.
    pub(crate) fn stop_requested(&self) -> bool {
        self.interrupter.should_stop()
    }

    /// Gives the terminal back.
    pub(crate) fn close(mut self) {
        self.renderer.end_split();
        self.renderer.end();
    }
}

fn metric_id(name: &str) -> MetricId {
    MetricId::new(Arc::new(name.to_owned()))
}
