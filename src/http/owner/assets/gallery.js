// Pictures and videos that were made, while their links live.
import { api } from './api.js';
import { h, fill, tr, head, fault, loading, empty, ago, button } from './dom.js';
import { safe_link } from './paste.js';

export async function show(place) {
  const list = h('div', {});
  fill(place, head(tr('Gallery', '图库'), tr('What was made through this server. The links end after some days.', '通过此服务器生成的内容,链接数日后失效。')), list);
  async function load() {
    fill(list, loading());
    try {
      const { items } = await api('admin/gallery');
      fill(list, items.length ? h('div', { class: 'gallery' }, items.map(one)) : empty(tr('Nothing made yet', '还没有作品'), tr('Pictures and videos from the playground or from clients appear here.', '试用页或客户端生成的图片和视频会显示在这里。'), h('a', { class: 'button', href: '#playground' }, tr('To the playground', '前往试用'))));
    } catch (error) { fill(list, fault(error, load)); }
  }
  await load();
}

function one(item) {
  const url = safe_link(item.url);
  const words = item.prompt || (item.kind === 'video' ? tr('Video', '视频') : tr('Picture', '图片'));
  const shown = item.kind === 'video' ? h('video', { src: url, controls: true, preload: 'metadata', 'aria-label': words }) : h('img', { src: url, alt: words, loading: 'lazy' });
  const figure = h('figure', {}, item.kind === 'video' || !url ? shown : h('a', { href: url, target: '_blank', rel: 'noreferrer noopener' }, shown), h('figcaption', {}, h('p', {}, words), `${item.model} · ${ago(item.at)}`));
  shown.addEventListener('error', () => shown.replaceWith(h('div', { class: 'empty' }, tr('It cannot be shown here any more', '无法再显示'))));
  return figure;
}
