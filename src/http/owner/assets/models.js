// The catalogue: what each model can do, and which names the list of models has.
import { api, patch } from './api.js';
import { kind_name } from './paste.js';
import { h, fill, tr, head, card, fault, loading, tag, short, toggle, icon, empty, say, button } from './dom.js';

export const ABILITIES = {
  thinking: ['think', () => tr('thinks', '思考')], search: ['search', () => tr('searches', '搜索')], image_input: ['eye', () => tr('sees pictures', '看图')], video_input: ['video', () => tr('watches videos', '看视频')], audio_input: ['sound', () => tr('hears', '听音频')], document_input: ['file', () => tr('reads documents', '读文档')],
  image: ['picture', () => tr('makes pictures', '生成图片')], image_edit: ['picture', () => tr('edits pictures', '编辑图片')], video: ['video', () => tr('makes videos', '生成视频')], tools: ['tool', () => tr('calls tools', '调用工具')], embeddings: ['models', () => tr('embeds', '嵌入')], deep_research: ['search', () => tr('researches', '深度研究')],
};
export function abilities(list) {
  return h('span', { class: 'row' }, list.map((name) => { const [picture, label] = ABILITIES[name] ?? ['more', () => name]; return h('span', { class: 'tag', title: label() }, icon(picture), label()); }));
}

// The rows of MODEL_MAP in the order in which they are tried. They are a setting, which the server keeps for the page.
function aliases_card({ settings = [], version }, models, load) {
  const setting = settings.find((one) => one.name === 'MODEL_MAP') ?? {};
  const rows = h('div', { class: 'stack' });
  const trouble = h('div', {});
  const names = h('datalist', { id: 'model-names' }, (models ?? []).flatMap((one) => [one.id, ...(one.variants ?? []).map((variant) => variant.id)]).map((id) => h('option', { value: id })));
  const text = (value, label, placeholder, list) => h('input', { type: 'text', value, 'aria-label': label, placeholder, list, autocomplete: 'off', spellcheck: 'false', disabled: !setting.changeable });
  function row(name = '', model = '') {
    const element = h('div', { class: 'row alias' }, h('div', { class: 'grow' }, text(name, tr('Name', '名称'), 'gpt-4o*')), h('span', { 'aria-hidden': 'true' }, '→'), h('div', { class: 'grow' }, text(model, tr('Stands for', '对应模型'), 'qwen3-max', 'model-names')),
      setting.changeable ? button(tr('Remove', '移除'), () => element.remove(), { kind: 'small' }) : null);
    return element;
  }
  for (const entry of (setting.value ?? '').split(',').map((one) => one.trim()).filter(Boolean)) {
    const [name, ...model] = entry.split('=');
    rows.append(row(name, model.join('=')));
  }
  async function save(value) {
    try { await patch('admin/settings', { MODEL_MAP: value }, { 'if-match': `"${version}"` }); say(tr('Aliases changed', '别名已更改')); await load(); } catch (error) { fill(trouble, error.code === 'settings_changed' ? fault(error, load, tr('Load them again', '重新加载')) : fault(error)); }
  }
  const entries = () => [...rows.children].map((one) => [...one.querySelectorAll('input')].map((input) => input.value.trim())).filter(([name, model]) => name || model).map(([name, model]) => `${name}=${model}`);
  return card(tr('Aliases', '别名'), h('p', { class: 'muted' }, tr('MODEL_MAP: programs with fixed model names get one of yours. The first row that fits counts; * stands at the end of a name.', 'MODEL_MAP：让固定模型名的程序使用你的模型。按顺序取第一条匹配；* 只能在名称末尾。')), rows, names, trouble,
    setting.changeable ? h('div', { class: 'row end' }, button(tr('Add', '添加'), () => { const one = row(); rows.append(one); one.querySelector('input').focus(); }),
      setting.origin === 'page' ? button(tr('Take these back', '撤销此更改'), () => save(null), { title: tr('Then the value of the files or the default is in use', '恢复为配置文件或默认值') }) : null, button(tr('Save', '保存'), () => save(entries()), { kind: 'primary' })) : null);
}

export async function show(place) {
  const list = h('div', { class: 'stack' });
  fill(place, head(tr('Models', '模型'), tr('What is switched off stays usable by its name; it is only left out of /v1/models, so that pickers stay short.', '关闭的名称仍可使用，只是不再出现在 /v1/models 中，让选择列表保持简短。')), list);
  async function load() {
    fill(list, loading());
    try {
      const [models, settings] = await Promise.all([api('admin/models'), api('admin/settings')]);
      draw(models, aliases_card(settings, models.models, load));
    } catch (error) { fill(list, fault(error, load)); }
  }
  async function list_it(id, is_listed, input) {
    try { await patch('admin/models', { listed: { [id]: is_listed } }); say(is_listed ? tr(`${id} is listed`, `${id} 已列出`) : tr(`${id} is not listed`, `${id} 已隐藏`)); } catch (error) { input.checked = !is_listed; say(error.message, 'bad'); }
  }
  function draw({ models }, aliases) {
    fill(list,
      models.length ? models.map((model) => h('section', { class: 'card' },
        h('div', { class: 'row between' }, h('div', { class: 'row' }, h('h2', { class: 'mono' }, model.id), tag(kind_name(model.kind)), model.context ? tag(tr(`${short(model.context)} tokens`, `${short(model.context)} 词元`)) : null), toggle(tr('Listed', '列出'), model.listed, (on, input) => list_it(model.id, on, input))),
        h('div', { class: 'model-abilities' }, abilities(model.abilities ?? [])),
        model.variants?.length ? h('details', {}, h('summary', {}, tr(`${model.variants.filter((one) => one.listed).length} of ${model.variants.length} variants listed`, `${model.variants.length} 个变体中列出 ${model.variants.filter((one) => one.listed).length} 个`)),
          h('div', { class: 'variants' }, model.variants.map((variant) => toggle(variant.id, variant.listed, (on, input) => list_it(variant.id, on, input))))) : null)) : empty(tr('No model', '没有模型'), tr('The catalogue is empty until an account can be asked.', '有可用账号后才能获取模型目录。')),
      aliases);
  }
  await load();
}
