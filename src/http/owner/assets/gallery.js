// Pictures and videos that were made, while their links live.
import { api } from './api.js';
import { h, fill, tr, head, fault, loading, empty, ago, clock, countdown, tag, icon } from './dom.js';
import { media_link } from './paste.js';

export async function show(place) {
  const list = h('div', {});
  fill(place, head(tr('Gallery', '图库'), tr('Pictures and videos made through this server. They are kept by the upstream and gone when their links end.', '通过此服务器生成的图片和视频。内容保存在上游，链接失效后将无法查看。')), list);
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
  const url = media_link(item.url);
  const is_video = item.kind === 'video';
  const name = tr(`${is_video ? 'Video' : 'Picture'} by ${item.model}`, `${item.model} 生成的${is_video ? '视频' : '图片'}`);
  const shown = is_video ? h('video', { src: url, controls: true, preload: 'metadata', 'aria-label': name }) : h('img', { src: url, alt: name, loading: 'lazy' });
  shown.addEventListener('error', () => shown.replaceWith(h('div', { class: 'gone' }, icon(is_video ? 'video' : 'picture'), tr('The upstream does not give it out any more', '上游已不再提供此内容'))));
  return h('figure', {},
    is_video || !url ? shown : h('a', { href: url, target: '_blank', rel: 'noreferrer noopener', 'aria-label': tr(`${name}, in full`, `${name}（查看原图）`) }, shown),
    h('figcaption', {},
      h('div', { class: 'row between' }, tag(item.model), url ? h('a', { class: 'button small quiet', href: media_link(item.url, '&download=1'), download: '', 'aria-label': tr(`Download: ${name}`, `下载：${name}`) }, icon('download'), h('span', {}, tr('Download', '下载'))) : null),
      h('p', { class: 'hint' }, h('span', { title: clock(item.at) }, ago(item.at)), item.ends_at ? [' · ', tr('ends in ', '剩余 '), countdown(item.ends_at)] : null)));
}
