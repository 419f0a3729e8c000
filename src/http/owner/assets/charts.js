// Charts as SVG, drawn here.
import { h, tr, short, number } from './dom.js';

export const COLORS = ['#4f46e5', '#0d9488', '#d97706', '#db2777', '#0284c7', '#65a30d', '#9333ea', '#64748b'];

/** Bars of a day's hours. */
export function spark(hours) {
  const max = Math.max(1, ...hours);
  const total = hours.reduce((all, one) => all + one, 0);
  const width = 240 / hours.length;
  return h('svg', { class: 'spark', viewBox: '0 0 240 36', preserveAspectRatio: 'none', role: 'img', 'aria-label': tr(`${number(total)} requests in 24 hours`, `24 小时内 ${number(total)} 个请求`) },
    hours.map((count, place) => {
      const tall = count ? Math.max(3, (count / max) * 34) : 2;
      return h('rect', { class: count ? '' : 'none', x: place * width + 1, y: 36 - tall, width: width - 2, height: tall, rx: 1 }, h('title', { svg: true }, number(count)));
    }));
}

/** A nice number at or above `max`. */
function top_of(max) {
  if (max <= 4) return 4;
  const power = 10 ** Math.floor(Math.log10(max));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((value) => value >= max);
}

/** Stacked bars: `labels` along the x axis, `series` as [{name, values, color}]. */
export function bars(labels, series, { title, format = short } = {}) {
  const [width, height, left, bottom, up] = [480, 220, 44, 24, 8];
  const sums = labels.map((_, place) => series.reduce((all, one) => all + (one.values[place] ?? 0), 0));
  const top = top_of(Math.max(0, ...sums));
  const y = (value) => up + (height - up - bottom) * (1 - value / top);
  const step = (width - left) / Math.max(1, labels.length);
  const every = Math.ceil(labels.length / 7);
  const marks = [0, 0.25, 0.5, 0.75, 1].map((part) => part * top);
  return h('figure', {},
    h('svg', { class: 'chart', viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': title },
      marks.map((mark) => [h('line', { class: 'grid', x1: left, x2: width, y1: y(mark), y2: y(mark) }), h('text', { x: left - 8, y: y(mark) + 4, 'text-anchor': 'end' }, format(mark))]),
      labels.map((label, place) => {
        let base = 0;
        const thick = Math.min(44, step * 0.66);
        return [
          series.map((one) => {
            const value = one.values[place] ?? 0;
            const rect = value > 0 ? h('rect', { class: 'bar', x: left + place * step + (step - thick) / 2, y: y(base + value), width: thick, height: Math.max(0.5, y(base) - y(base + value)), color: one.color }) : null;
            base += value;
            return rect;
          }),
          h('rect', { class: 'hit', x: left + place * step, y: up, width: step, height: height - up - bottom }, h('title', { svg: true }, `${label}: ${series.map((one) => `${one.name} ${number(one.values[place] ?? 0)}`).join(', ')}`)),
          place % every === 0 ? h('text', { x: left + place * step + step / 2, y: height - 6, 'text-anchor': 'middle' }, label) : null,
        ];
      })),
    series.length > 1 ? h('figcaption', { class: 'legend' }, series.map((one) => h('span', {}, h('i', { color: one.color }), one.name))) : null);
}
