// Settings: the value of each, where it comes from, and whether a restart is needed.
import { api, patch, post } from './api.js';
import { h, fill, refill, tr, is_zh, both, rich, head, fault, loading, tag, button, field, dialog, say, notice, empty } from './dom.js';

const ORIGINS = { page: () => tr('changed here', '在此更改'), file: () => tr('config file', '配置文件'), '.env': () => '.env', environment: () => tr('environment', '环境变量'), flag: () => tr('option', '命令行选项') };
const origin = (name) => ORIGINS[name]?.() ?? name;
const SECTIONS = {
  'Accounts and keys': '账号与密钥', 'OAuth accounts and static keys': 'OAuth 账号与静态密钥', Listening: '监听', 'Chats and models': '对话与模型',
  'The pool of identities': '账号池', 'The upstream': '上游', 'Files, logs, stopping': '文件、日志与停止',
};
const FLAGS = { 1: 'true', yes: 'true', 0: 'false', no: 'false' };

/** The word among the choices that means the value in force; undefined if it is none of them. */
function choice_of({ choices, value }) {
  const said = (value ?? '').trim().toLowerCase();
  return choices.find((word) => word === said) ?? choices.find((word) => word === FLAGS[said]);
}
/** A list of the choices with the one in force selected. A value that is none of them is listed as well. */
function select_of(setting) {
  const chosen = choice_of(setting);
  const other = chosen === undefined ? [h('option', { value: setting.value ?? '', selected: true }, setting.value || tr('not set', '未设置'))] : [];
  return h('select', {}, other, setting.choices.map((word) => h('option', { value: word, selected: word === chosen }, word)));
}

/** What became of a change or a reload, in words. */
function outcome_of({ changed = [], needs_restart = [] }) {
  return [
    changed.length ? tr(`Changed: ${changed.join(', ')}.`, `已更改：${changed.join('、')}。`) : needs_restart.length ? '' : tr('Nothing has changed.', '没有变化。'),
    needs_restart.length ? tr(`In use after a restart of the server only: ${needs_restart.join(', ')}.`, `重启服务器后才生效：${needs_restart.join('、')}。`) : '',
  ].filter(Boolean).join(' ');
}

export async function show(place) {
  const list = h('div', { class: 'stack' });
  const outcome = h('div', { 'aria-live': 'polite' });
  const search = h('input', { type: 'search', placeholder: tr('Find a setting', '查找设置'), 'aria-label': tr('Find a setting', '查找设置') });
  const changed = h('input', { type: 'checkbox', id: 'changed' });
  let settings = [], version = '';
  fill(place, head(tr('Settings', '设置'), tr('The values in use and where they come from. A change made here is kept by this server and comes before the files, which stay as they are.', '当前使用的值及来源。在此处的更改由服务保存，优先于配置文件；文件本身不会被改写。'),
    button(tr('Reload files', '重新载入文件'), async () => { try { tell(await post('admin/reload')); } catch (error) { fill(outcome, fault(error)); } await load(); }, { title: tr('Read .env, config.json and the cookie file again', '重新读取 .env、config.json 和 Cookie 文件') })),
  outcome, h('div', { class: 'row' }, h('div', { class: 'grow' }, search), h('label', { class: 'row', for: 'changed' }, changed, tr('Only what was set', '只看已设置的'))), list);
  search.addEventListener('input', draw);
  changed.addEventListener('change', draw);
  function tell(told) {
    if (told.faults?.length) fill(outcome, notice('bad', h('div', {}, h('strong', {}, tr('Nothing was changed:', '未做任何更改：')), h('ul', {}, told.faults.map((one) => h('li', {}, both(one) || one?.message || JSON.stringify(one)))))));
    else fill(outcome, notice(told.needs_restart?.length ? 'warn' : 'good', h('p', {}, outcome_of(told))));
  }
  function draw() {
    const word = search.value.trim().toLowerCase();
    const shown = settings.filter((one) => (!word || `${one.name} ${one.about} ${one.section} ${SECTIONS[one.section] ?? ''}`.toLowerCase().includes(word)) && (!changed.checked || one.origin !== 'default'));
    const groups = new Map();
    for (const setting of shown) groups.set(setting.section ?? '', [...(groups.get(setting.section ?? '') ?? []), setting]);
    refill(list, shown.length ? [...groups].map(([section, some]) => h('section', { class: 'card flush' }, section ? h('h2', { class: 'setting' }, tr(section, SECTIONS[section] ?? section)) : null, some.map(one))) : empty(tr('Nothing matches', '没有匹配项'), changed.checked ? tr('No setting differs from its default.', '没有与默认值不同的设置。') : tr('Try another word.', '换个词试试。')));
  }
  const one = (setting) => h('div', { class: 'setting' },
    h('div', {}, h('div', { class: 'row' }, h('strong', { class: 'mono' }, setting.name), setting.origin !== 'default' ? tag(origin(setting.origin), 'accent') : null, setting.needs_restart ? tag(tr('restart', '需重启')) : null), h('p', {}, rich(setting.about))),
    h('div', { class: 'row' }, h('div', { class: 'value' }, setting.value || h('span', { class: 'muted' }, tr('not set', '未设置')), setting.origin !== 'default' && setting.default ? h('div', { class: 'muted' }, tr(`default ${setting.default}`, `默认 ${setting.default}`)) : null,
      setting.pending ? h('div', { class: 'muted' }, tr(`after a restart: ${setting.pending.value ?? 'not set'} (${origin(setting.pending.origin)})`, `重启后：${setting.pending.value ?? '未设置'}(${origin(setting.pending.origin)})`)) : null),
    setting.changeable ? h('button', { type: 'button', class: 'button small', 'data-focus': setting.name, 'aria-label': tr(`Change ${setting.name}`, `更改 ${setting.name}`), onclick: () => change(setting) }, tr('Change', '更改')) : null));
  const change = (setting) => dialog(setting.name, (close) => {
    const value = setting.choices?.length ? select_of(setting) : h('input', { type: 'text', value: setting.value ?? '', autocomplete: 'off', spellcheck: 'false' });
    const trouble = h('div', { class: 'stack', 'aria-live': 'polite' });
    async function save(text) {
      try {
        const told = await patch('admin/settings', { [setting.name]: text }, { 'if-match': `"${version}"` });
        close(true);
        tell(told);
        say(outcome_of(told));
        await load();
      } catch (error) {
        fill(trouble, fault(error));
        if (error.code !== 'settings_changed') return;
        // The next save is of the settings as they are now, which the owner sees before.
        await load();
        const now = settings.find((one) => one.name === setting.name)?.value, is_same = now === setting.value;
        fill(trouble, notice('bad', h('p', {}, tr(`The settings were changed elsewhere meanwhile. ${setting.name} is ${is_same ? 'still' : 'now'} ${now || 'not set'}. Save again to set your value.`, `设置已在别处被更改。${setting.name} ${is_same ? '仍为' : '现为'} ${now || '未设置'}。再次保存即可使用你的值。`))));
      }
    }
    const form = h('form', { class: 'stack' }, h('p', { class: 'muted' }, rich(setting.about)), field(tr('Value', '值'), value, setting.default ? tr(`Default: ${setting.default}`, `默认：${setting.default}`) : null), trouble,
      h('div', { class: 'row end' }, setting.origin === 'page' ? button(tr('Take this value back', '撤销此更改'), () => save(null), { title: tr('Then the value of the files or the default is in use', '恢复为配置文件或默认值') }) : null, h('button', { type: 'submit', class: 'button primary' }, tr('Save', '保存'))));
    form.addEventListener('submit', (event) => { event.preventDefault(); save(value.value); });
    return form;
  });
  async function load() {
    try {
      const [told, chinese] = await Promise.all([api('admin/settings'), is_zh() ? import('./settings_zh.js') : null]);
      ({ settings, version } = told);
      for (const setting of settings) setting.about = chinese?.ABOUT[setting.name] ?? setting.about;
      draw();
    } catch (error) { fill(list, fault(error, load)); }
  }
  fill(list, loading());
  await load();
}
