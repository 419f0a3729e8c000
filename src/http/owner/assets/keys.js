// The callers' keys: names, limits, last use; made and revoked here.
import { api, post, patch, remove } from './api.js';
import { h, fill, tr, head, fault, loading, table, tag, number, short, button, ask, dialog, field, code_line, ago, empty, say, notice } from './dom.js';

const ORIGINS = { file: () => tr('settings', '配置'), generated: () => tr('generated', '自动生成'), page: () => tr('made here', '在此创建') };

export async function show(place) {
  const list = h('div', {});
  fill(place, head(tr('Keys', '密钥'), tr('Each program gets a key of its own, so that its usage and limits are its own.', '为每个程序单独创建密钥，用量与限额各自独立。'), button(tr('Make a key', '创建密钥'), async () => { await make(); await load(); }, { kind: 'primary', icon: 'plus' })), list);
  async function load() {
    fill(list, loading());
    try { draw((await api('admin/keys')).keys); } catch (error) { fill(list, fault(error, load)); }
  }
  function draw(keys) {
    if (!keys.length) { fill(list, empty(tr('No key', '没有密钥'), tr('Without a key, every program on this machine can use this server. Once there is one, each program has to send a key.', '没有密钥时，本机上的任何程序都可使用此服务器。创建密钥后，所有程序都必须提供密钥。'))); return; }
    fill(list, h('section', { class: 'card flush' }, table([
      { title: tr('Name', '名称') }, { title: tr('Key', '密钥') }, { title: tr('Requests today', '今日请求'), num: true }, { title: tr('Tokens today', '今日词元'), num: true }, { title: tr('Models', '模型') }, { title: tr('Last use', '最近使用') }, { title: '' },
    ], keys.map((key) => h('tr', {},
      h('th', { scope: 'row' }, key.name, ' ', tag(ORIGINS[key.origin]?.() ?? key.origin)),
      h('td', {}, h('code', {}, key.shown)),
      h('td', { class: 'num' }, of(key.used_today?.requests, key.limits?.requests_per_day, number)),
      h('td', { class: 'num' }, of(key.used_today?.tokens, key.limits?.tokens_per_day, short)),
      h('td', {}, key.limits?.models?.length ? key.limits.models.join(', ') : tr('all', '全部')),
      h('td', {}, key.last_used_at ? ago(key.last_used_at) : tr('never', '从未')),
      h('td', {}, h('div', { class: 'row' },
        key.origin === 'file' ? null : [
          button(tr('Limits', '限额'), async () => { if (await limits(key)) await load(); }, { kind: 'small' }),
          button(tr('Revoke', '吊销'), async () => {
            if (!await ask(tr(`Revoke ${key.name}?`, `吊销 ${key.name}?`), keys.length === 1 ? tr('It is the last key: from then on every program on this machine can use this server without one.', '这是最后一个密钥：吊销后，本机上的任何程序无需密钥即可使用此服务器。') : tr('Programs that use it are refused from then on.', '使用它的程序将立即被拒绝。'), tr('Revoke', '吊销'))) return;
            try { await remove(`admin/keys/${encodeURIComponent(key.name)}`); say(tr('The key was revoked', '密钥已吊销')); } catch (error) { say(error.message, 'bad'); }
            await load();
          }, { kind: 'small danger' })])))), { caption: tr('Keys', '密钥') })));
  }
  await load();
}
const of = (used, limit, format) => h('span', {}, format(used ?? 0), limit ? h('span', { class: 'muted' }, ` / ${format(limit)}`) : null);

function limit_fields(limits = {}) {
  const requests = h('input', { type: 'number', min: '1', value: limits.requests_per_day ?? '' }), tokens = h('input', { type: 'number', min: '1', value: limits.tokens_per_day ?? '' });
  const models = h('input', { type: 'text', value: (limits.models ?? []).join(', '), placeholder: 'qwen3-*' });
  const read = () => ({ requests_per_day: requests.value ? Number(requests.value) : null, tokens_per_day: tokens.value ? Number(tokens.value) : null, models: models.value.split(',').map((one) => one.trim()).filter(Boolean) });
  return [read, [field(tr('Requests a day', '每日请求数'), requests, tr('Empty: no limit. Days are of UTC.', '留空不限。日期按 UTC。')), field(tr('Tokens a day', '每日词元数'), tokens), field(tr('Models', '模型'), models, tr('Empty: all. Several are separated by commas; * stands for anything.', '留空为全部；多个用逗号分隔，* 表示任意。'))]];
}

const make = () => dialog(tr('Make a key', '创建密钥'), (close) => {
  const name = h('input', { type: 'text', required: true, maxlength: '32', pattern: '[A-Za-z0-9_\\-]{1,32}', placeholder: 'laptop' });
  const [read, fields] = limit_fields();
  const place = h('div', { class: 'stack' });
  const trouble = h('div', {});
  const form = h('form', { class: 'stack' }, field(tr('Name', '名称'), name, tr('Letters, digits, - and _', '字母、数字、- 和 _')), h('details', {}, h('summary', {}, tr('Limits', '限额')), h('div', { class: 'stack' }, fields)), trouble, h('div', { class: 'row end' }, h('button', { type: 'submit', class: 'button primary' }, tr('Make', '创建'))));
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    try {
      const made = await post('admin/keys', { name: name.value.trim(), limits: read() });
      fill(place, notice('good', tr('This is shown once. Only a hash of it is kept.', '此密钥只显示一次，服务器只保存其哈希。')), code_line(made.key), h('div', { class: 'row end' }, button(tr('Done', '完成'), () => close(true), { kind: 'primary' })));
    } catch (error) { fill(trouble, fault(error)); }
  });
  return fill(place, form);
});
const limits = (key) => dialog(tr(`Limits of ${key.name}`, `${key.name} 的限额`), (close) => {
  const [read, fields] = limit_fields(key.limits);
  const trouble = h('div', {});
  const form = h('form', { class: 'stack' }, fields, trouble, h('div', { class: 'row end' }, h('button', { type: 'submit', class: 'button primary' }, tr('Save', '保存'))));
  form.addEventListener('submit', async (event) => { event.preventDefault(); try { await patch(`admin/keys/${encodeURIComponent(key.name)}`, { limits: read() }); close(true); } catch (error) { fill(trouble, fault(error)); } });
  return form;
});
