"use strict";

// A page's data are unpacked, then each chart is drawn by plotly.js in the colours of the page, light or dark.
(async () => {
  const unpacked = async (id) => {
    const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (one) => one.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  };
  const problem = (text) => {
    const place = document.getElementById("problem");
    place.textContent = text;
    place.hidden = false;
  };
  if (typeof DecompressionStream === "undefined") {
    problem("Charts need a browser of 2023 or later; the tables are all there without.");
    return;
  }
  const script = document.createElement("script");
  script.textContent = await unpacked("plotly");
  document.head.append(script);
  const data = JSON.parse(await unpacked("data"));

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const coarse = matchMedia("(pointer: coarse)");
  const DASHES = ["solid", "dash", "dashdot", "dot", "8px,2px,2px,2px,2px,2px", "2px,2px", "12px,4px"];
  const STROKES = { dash: "7 4", dashdot: "7 3 2 3", dot: "2 3", [DASHES[4]]: "7 2 2 2 2 2", [DASHES[5]]: "2 2", [DASHES[6]]: "11 4" };
  const PATTERNS = ["", "/", ".", "x", "\\", "+", "-"];
  const figures = [...document.querySelectorAll("figure[data-chart]")];
  const hidden = new Set(); // "section / series"

  // Plotly reads some HTML in texts; those of a trace are to be shown as they are.
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const folded = (text, width) => {
    const lines = [];
    for (const word of String(text).split(/(?<=[ ,\-_/])/)) {
      const last = lines.length - 1;
      if (last >= 0 && (lines[last] + word).trimEnd().length <= width) lines[last] += word;
      else lines.push(word);
    }
    return lines.map((line) => plain(line.trim())).join("<br>");
  };
  const titled = (figure, text) => folded(text, figure.clientWidth < 500 ? 36 : 80);
  const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const mode = () => (dark.matches ? "dark" : "light");
  const colour = (style) => {
    const palette = data.colours[mode()];
    return style === "wait" ? data.wait[mode()] : palette[style % palette.length];
  };
  const dash = (style) => DASHES[(style + Math.floor(style / data.colours.light.length)) % DASHES.length];
  const pattern = (style) => (style === "wait" ? "" : PATTERNS[style % PATTERNS.length]);
  const shade = (hex, alpha) => `rgba(${[1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)).join(",")},${alpha})`;
  const sectionOf = (figure) => figure.closest("section").id;
  const shown = (figure, series) => !hidden.has(`${sectionOf(figure)} / ${series.name}`);

  const axis = (title, unit, more = {}) => ({
    title: { text: title, standoff: 8 },
    gridcolor: variable("--grid"),
    zerolinecolor: variable("--line"),
    linecolor: variable("--line"),
    automargin: true,
    exponentformat: unit === "s" ? "none" : "SI", // 5 MB, but 5000 s
    ticksuffix: unit === "s" ? " s" : unit,
    ...more,
  });
  const layout = (more) => ({
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: variable("--text") },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 48, r: 12, t: 8, b: 44 },
    showlegend: false,
    dragmode: coarse.matches ? false : "zoom",
    hoverlabel: {
      bgcolor: variable("--panel"), bordercolor: variable("--line"), font: { color: variable("--text") }, namelength: -1,
    },
    ...more,
  });
  const bar = (series, more) => ({
    type: "bar",
    name: plain(series.name),
    marker: {
      color: colour(series.style),
      pattern: { shape: pattern(series.style), fillmode: "overlay", fgcolor: variable("--panel"), fgopacity: 0.6, size: 6 },
      line: { width: 0 },
    },
    ...more,
  });

  const lines = (figure, chart) => {
    const traces = [];
    for (const series of chart.series.filter((one) => shown(figure, one))) {
      const own = colour(series.style);
      const shape = series.steps ? "hv" : "linear";
      if (series.low.length) {
        const edge = { x: series.x, mode: "lines", line: { width: 0, shape, color: own }, hoverinfo: "skip" };
        traces.push({ ...edge, y: series.low });
        traces.push({ ...edge, y: series.high, fill: "tonexty", fillcolor: shade(own, 0.2) });
      }
      const range = series.low.length ? " (%{customdata[0]:.4~g} to %{customdata[1]:.4~g})" : "";
      traces.push({
        x: series.x,
        y: series.y,
        name: folded(series.name, 34),
        mode: series.x.length === 1 ? "markers" : "lines",
        line: { color: own, width: 1.8, dash: dash(series.style), shape },
        marker: { color: own, size: 7 },
        customdata: series.low.map((low, at) => [low, series.high[at]]),
        hovertemplate: `%{y:.4~g}${range}`,
      });
    }
    const y = /accuracy|share|density|active/.test(chart.y_title) ? { rangemode: "nonnegative" } : { rangemode: "tozero" };
    return [traces, layout({
      height: 290,
      hovermode: "x unified",
      xaxis: axis(titled(figure, chart.x_title), chart.x_unit, { hoverformat: ".4~s" }),
      yaxis: axis(folded(chart.y_title, 30), chart.unit, y),
    })];
  };

  const bars = (figure, chart) => {
    const series = chart.series.filter((one) => shown(figure, one));
    if (!chart.lying) {
      const traces = series.map((one) => bar(one, { x: one.x, y: one.y, hovertemplate: "%{y:.4~g}" }));
      if (chart.series[0].x.length > 40) for (const trace of traces) delete trace.marker.pattern; // noise in narrow bars
      return [traces, layout({
        height: 290,
        barmode: "stack",
        bargap: chart.series[0].x.length > 40 ? 0 : 0.15,
        hovermode: "x unified",
        xaxis: axis(titled(figure, chart.x_title), chart.x_unit),
        yaxis: axis(folded(chart.y_title, 30), chart.unit),
      })];
    }
    const width = figure.clientWidth < 500 ? 16 : 30;
    const names = chart.series[0].x.map((name) => folded(name, width));
    const traces = series.map((one) => bar(one, {
      orientation: "h", x: one.y, y: names.map((_, at) => at), text: names, textposition: "none",
      hovertemplate: "%{x:.4~g} s",
    }));
    const rows = names.reduce((sum, name) => sum + Math.max(1, 0.8 * name.split("<br>").length), 0);
    return [traces, layout({
      height: 90 + (names.length > 20 ? 17 : 26) * Math.max(rows, 2),
      barmode: "stack",
      bargap: 0.25,
      hovermode: "y unified",
      xaxis: axis(plain(chart.y_title), chart.unit),
      yaxis: axis("", "", {
        autorange: "reversed", zeroline: false, tickvals: names.map((_, at) => at), ticktext: names, showgrid: false,
        tickfont: { size: names.length > 20 ? 10 : 12 },
      }),
    })];
  };

  const PARTS = ["download_s", "compute_s", "upload_s", "wait_s"];
  const gantt = (figure, chart) => {
    const round = chart.rounds[Number(figure.querySelector("input").value)];
    const names = round.client.map((client, at) => {
      const status = data.statuses[round.status[at]];
      return status === "ok" ? `${client}` : `${client} ${status}`;
    });
    const about = round.client.map((client, at) => {
      const device = chart.devices[round.device[at]];
      const sent = `${round.bytes_down[at]} B down, ${round.bytes_up[at]} B up`;
      return `client ${plain(names[at])}${device ? `, ${plain(device)}` : ""}<br>${sent}`;
    });
    const rows = names.map((_, at) => at);
    const traces = chart.series.map((series, part) => [series, part]).filter(([series]) => shown(figure, series)).map(
      ([series, part]) => bar(series, {
        orientation: "h", y: rows, x: round[PARTS[part]], customdata: about,
        base: rows.map((at) => PARTS.slice(0, part).reduce((sum, name) => sum + (round[name][at] ?? 0), 0)),
        hovertemplate: `%{customdata}<br>${series.name}: %{x:.4~g} s<extra></extra>`,
      }),
    );
    const few = rows.length < round.participants ? `, ${rows.length} of them shown` : "";
    const counts = {};
    for (const status of round.status) if (status) counts[data.statuses[status]] = (counts[data.statuses[status]] ?? 0) + 1;
    const bad = Object.entries(counts).map(([name, count]) => `, ${count} ${name}`).join("");
    const seconds = (value) => value.toLocaleString("en", { maximumFractionDigits: 2 });
    figure.querySelector("output").textContent = `Round ${round.round}: from ${seconds(round.start_s)} to ${seconds(round.end_s)} s, `
      + `${round.participants.toLocaleString("en")} participant${round.participants === 1 ? "" : "s"}${few}${bad}`;
    return [traces, layout({
      height: 90 + (rows.length > 20 ? 16 : 24) * Math.max(rows.length, 3),
      barmode: "overlay",
      bargap: 0.2,
      hovermode: "closest",
      xaxis: axis(chart.x_title, chart.unit, { rangemode: "tozero" }),
      yaxis: axis("client", "", {
        range: [rows.length - 0.5, -0.5], tickvals: rows, ticktext: names.map(plain), showgrid: false, zeroline: false,
        tickfont: { size: rows.length > 20 ? 10 : 12 },
      }),
    })];
  };

  const draw = (figure) => {
    const chart = data.charts[Number(figure.dataset.chart)];
    const [traces, more] = { lines, bars, gantt }[chart.kind](figure, chart);
    Plotly.react(figure.querySelector(".plot"), traces, more, {
      responsive: true, displaylogo: false, displayModeBar: false, doubleClick: "reset", showTips: false,
    });
  };
  const visible = () => figures.filter((figure) => !figure.hidden);

  const legends = () => {
    for (const legend of document.querySelectorAll(".legend")) {
      const found = new Map();
      for (const figure of visible().filter((one) => sectionOf(one) === legend.dataset.section)) {
        const chart = data.charts[Number(figure.dataset.chart)];
        for (const series of chart.series) if (!found.has(series.name)) found.set(series.name, [series, chart.kind, []]);
        for (const series of chart.series) found.get(series.name)[2].push(figure);
      }
      legend.replaceChildren(...(found.size < 2 ? [] : [...found.values()]).map(([series, kind, of]) => {
        const button = document.createElement("button");
        button.type = "button";
        const key = `${legend.dataset.section} / ${series.name}`;
        button.setAttribute("aria-pressed", String(!hidden.has(key)));
        const own = colour(series.style);
        const strokes = kind === "lines" ? STROKES[dash(series.style)] ?? "" : "";
        const sample = kind === "lines"
          ? `<line x1="0" y1="6" x2="28" y2="6" stroke="${own}" stroke-width="2.5" stroke-dasharray="${strokes}"/>`
          : `<rect width="14" height="12" rx="2" fill="${own}"/>`;
        button.innerHTML = `<svg width="${kind === "lines" ? 28 : 14}" height="12" aria-hidden="true">${sample}</svg>`;
        button.append(series.name);
        button.addEventListener("click", () => {
          if (!hidden.delete(key)) hidden.add(key);
          button.setAttribute("aria-pressed", String(!hidden.has(key)));
          new Set(of).forEach(draw);
        });
        return button;
      }));
    }
  };

  const all = () => {
    legends();
    visible().forEach(draw);
  };
  const choose = (run) => {
    for (const figure of figures) figure.hidden = figure.dataset.run !== undefined && figure.dataset.run !== run;
  };

  for (const figure of figures.filter((one) => one.classList.contains("gantt"))) {
    const slider = figure.querySelector("input");
    const { rounds } = data.charts[Number(figure.dataset.chart)];
    slider.addEventListener("input", () => draw(figure));
    for (const button of figure.querySelectorAll("button")) {
      button.addEventListener("click", () => {
        const longest = () => rounds.reduce((best, round, at) => {
          const length = ({ start_s, end_s }) => end_s - start_s;
          return length(round) > length(rounds[best]) ? at : best;
        }, 0);
        slider.value = button.dataset.step ? Number(slider.value) + Number(button.dataset.step) : longest();
        draw(figure);
      });
    }
  }
  const list = document.getElementById("run");
  list?.addEventListener("change", () => {
    choose(list.value);
    all();
  });
  choose(list?.value ?? "0");
  dark.addEventListener("change", all);
  all();
  document.body.dataset.ready = "yes";
})().catch((error) => {
  const place = document.getElementById("problem");
  place.textContent = `Charts could not be drawn: ${error}`;
  place.hidden = false;
  console.error(error);
});
