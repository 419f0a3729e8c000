// Settings: the value of each, where it comes from, and whether a restart is needed.
import { api, patch, post } from './api.js';
import { h, fill, tr, both, rich, head, fault, loading, tag, button, field, dialog, say, notice, empty } from './dom.js';

const ORIGINS = { page: () => tr('changed here', '在此更改'), file: () => tr('config file', '配置文件'), '.env': () => '.env', environment: () => tr('environment', '环境变量'), flag: () => tr('option', '命令行选项') };

export async function show(place) {
  const list = h('div', { class: 'stack' });
  const outcome = h('div', { 'aria-live': 'polite' });
  const search = h('input', { type: 'search', placeholder: tr('Find a setting', '查找设置'), 'aria-label': tr('Find a setting', '查找设置') });
  const changed = h('input', { type: 'checkbox', id: 'changed' });
  let settings = [], version = '';
  fill(place, head(tr('Settings', '设置'), tr('Values in use and where they come from. What you change here is kept by the server and comes before the files, which stay as they are.', '当前使用的值及来源。在此处的更改由服务保存,优先于配置文件;文件本身不会被改写。'),
    button(tr('Reload files', '重新载入'), async () => { try { tell(await post('admin/reload')); } catch (error) { fill(outcome, fault(error)); } await load(); })),
  outcome, h('div', { class: 'row' }, h('div', { class: 'grow' }, search), h('label', { class: 'row', for: 'changed' }, changed, tr('Only what was set', '只看已设置的'))), list);
  search.addEventListener('input', draw);
  changed.addEventListener('change', draw);
  function tell({ changed: now = [], needs_restart = [], faults = [] }) {
    const shown = (one) => both(one) || one?.message || JSON.stringify(one);
    if (faults.length) fill(outcome, notice('bad', h('div', {}, h('strong', {}, tr('Nothing was changed:', '未做任何更改:')), h('ul', {}, faults.map((one) => h('li', {}, shown(one)))))));
    else fill(outcome, notice(needs_restart.length ? 'warn' : 'good', h('div', {}, now.length ? tr(`Changed: ${now.map(shown).join(', ')}.`, `已更改:${now.map(shown).join('、')}。`) : tr('Nothing has changed.', '没有变化。'), needs_restart.length ? tr(` Needs a restart: ${needs_restart.map(shown).join(', ')}.`, ` 需要重启:${needs_restart.map(shown).join('、')}。`) : '')));
  }
  function draw() {
    const word = search.value.trim().toLowerCase();
    const shown = settings.filter((one) => (!word || `${one.name} ${one.about}`.toLowerCase().includes(word)) && (!changed.checked || one.origin !== 'default'));
    const groups = Map.groupBy ? Map.groupBy(shown, (one) => one.section ?? '') : new Map([['', shown]]);
    fill(list, shown.length ? [...groups].map(([section, some]) => h('section', { class: 'card flush' }, section ? h('h2', { class: 'setting' }, section) : null, some.map(one))) : empty(tr('Nothing matches', '没有匹配项'), tr('Try another word.', '换个词试试。')));
  }
  const one = (setting) => h('div', { class: 'setting' },
    h('div', {}, h('div', { class: 'row' }, h('strong', { class: 'mono' }, setting.name), setting.origin !== 'default' ? tag(ORIGINS[setting.origin]?.() ?? setting.origin, 'accent') : null, setting.needs_restart ? tag(tr('restart', '需重启')) : null), h('p', {}, rich(setting.about))),
    h('div', {}, h('div', { class: 'value' }, setting.value || h('span', { class: 'muted' }, tr('not set', '未设置')), setting.origin !== 'default' && setting.default ? h('div', { class: 'muted' }, tr(`default ${setting.default}`, `默认 ${setting.default}`)) : null, setting.pending ? h('div', { class: 'muted' }, tr(`after a restart: ${setting.pending.value ?? 'not set'} (${setting.pending.origin})`, `重启后:${setting.pending.value ?? '未设置'}(${setting.pending.origin})`)) : null), setting.changeable ? h('div', { class: 'row end' }, button(tr('Change', '更改'), () => change(setting), { kind: 'small' })) : null));
  const change = (setting) => dialog(setting.name, (close) => {
    const value = setting.choices?.length
      ? h('select', {}, setting.choices.map((word) => h('option', { value: word, selected: word === setting.value }, word)))
      : h('input', { type: 'text', value: setting.value ?? '', autocomplete: 'off', spellcheck: 'false' });
    const trouble = h('div', {});
    const save = async (text) => { try { await patch('admin/settings', { [setting.name]: text }, { 'if-match': `"${version}"` }); say(tr('Changed', '已更改')); close(true); await load(); } catch (error) { fill(trouble, fault(error)); if (error.status === 409) await load(); } };
    const form = h('form', { class: 'stack' }, h('p', { class: 'muted' }, rich(setting.about)), field(tr('Value', '值'), value, setting.default ? tr(`Default: ${setting.default}`, `默认:${setting.default}`) : null), trouble,
      h('div', { class: 'row end' }, setting.origin === 'page' ? button(tr('Back to the file', '恢复文件中的值'), () => save(null)) : null, h('button', { type: 'submit', class: 'button primary' }, tr('Save', '保存'))));
    form.addEventListener('submit', (event) => { event.preventDefault(); save(value.value); });
    return form;
  });
  async function load() {
    try { ({ settings, version } = await api('admin/settings')); draw(); } catch (error) { fill(list, fault(error, load)); }
  }
  fill(list, loading());
  await load();
}
