'use strict';
// Draws the charts of a search, and marks in all of them the trial that was picked in one.
{
  const [charts, told] = ['charts', 'told'].map(id => JSON.parse(document.getElementById(id).textContent));
  const says = document.getElementById('says');
  const touch = matchMedia('(pointer: coarse)').matches;  // there a drag has to scroll the page
  let picked = null;

  // A colour is the name of one of the page's, so that light and dark are said in one place.
  function inked(value, style) {
    if (typeof value === 'string') return value.startsWith('--') ? style.getPropertyValue(value).trim() : value;
    if (Array.isArray(value)) return value.map(each => inked(each, style));
    if (value && typeof value === 'object') return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, inked(each, style)]));
    return value;
  }

  function axis(given = {}) {
    return {gridcolor: '--line', linecolor: '--edge', zeroline: false, automargin: true, ...given, title: {standoff: 8, ...given.title}};
  }

  function layoutOf(chart, element) {
    const small = element.clientWidth < 480, {height, ...given} = chart.layout;
    return {
      font: {family: getComputedStyle(document.body).fontFamily, size: small ? 11 : 12, color: '--ink'},
      paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', margin: {l: 8, r: 12, t: 8, b: 8}, height,
      hoverlabel: {bgcolor: '--card', bordercolor: '--edge', font: {color: '--ink'}, align: 'left'}, hovermode: 'closest',
      legend: {orientation: 'h', x: 0, y: -0.2, yanchor: 'top', font: {size: 11}}, dragmode: false, ...given,
      xaxis: axis(given.xaxis), yaxis: axis(given.yaxis), ...(touch ? {dragmode: false} : {}),
    };
  }

  function withWords(trace) {
    if (!trace.customdata) return trace;
    return {...trace, hoverinfo: 'text', text: trace.customdata.map(name => told[name] ?? '')};
  }

  // The marks of one trial once more, on top of all.
  function marked(chart) {
    return chart.data.filter(trace => trace.customdata?.includes(picked)).map(trace => {
      const mine = trace.customdata.flatMap((name, k) => name === picked ? [k] : []);
      return {
        type: 'scatter', mode: trace.mode, x: mine.map(k => trace.x[k]), y: mine.map(k => trace.y[k]), hoverinfo: 'skip', showlegend: false,
        line: {color: '--ink', width: 4}, marker: {color: '--ink', size: trace.mode === 'markers' ? 18 : 7, symbol: trace.mode === 'markers' ? 'circle-open' : 'circle', line: {width: 3}},
      };
    });
  }

  function draw(chart) {
    const element = document.getElementById(chart.name), style = getComputedStyle(document.documentElement);
    const data = chart.data.map(withWords).concat(picked === null ? [] : marked(chart));
    return Plotly.react(element, inked(data, style), inked(layoutOf(chart, element), style), {displayModeBar: false, responsive: true});
  }

  function pick(name) {
    picked = picked === name ? null : name;
    for (const button of document.querySelectorAll('.pick')) button.setAttribute('aria-pressed', button.dataset.trial === picked);
    if (says) says.textContent = picked === null ? '' : `Trial ${picked} is marked in all charts.`;
    charts.forEach(draw);
  }

  // Only the lines through a box on the parallel axes stay; without a box all come back.
  function keep(chart, element, event) {
    const through = event?.points?.length ? new Set(event.points.map(point => point.customdata)) : null;
    chart.data.forEach((trace, k) => {
      const y = through ? trace.y.map((at, j) => through.has(trace.customdata[j]) ? at : null) : trace.y;
      Plotly.restyle(element, {y: [y]}, [k]);
    });
  }

  for (const chart of charts) draw(chart).then(element => {
    element.on('plotly_click', event => { const name = event.points[0].customdata; if (name) pick(name); });
    if (chart.layout.dragmode === 'select') {
      element.on('plotly_selected', event => keep(chart, element, event));
      element.on('plotly_deselect', () => keep(chart, element, null));
    }
  });
  for (const button of document.querySelectorAll('.pick')) button.addEventListener('click', () => pick(button.dataset.trial));
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => charts.forEach(draw));
}
