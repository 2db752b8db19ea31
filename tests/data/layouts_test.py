"""Which files on disk are a case, and whose."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from liver_jax.data.layouts import find_cases
from liver_jax.errors import UserError
from small_dicom import enhanced, save_all, segmentation, slices, small_hu

CODALAB = 'media/nas/01_Datasets/CT/LITS/Training Batch 1'


def touch(root: Path, *names: str) -> Path:
    """Empty files with these names: finding cases never opens a volume."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def kaggle(root: Path, *numbers: int) -> Path:
    for number in numbers:
        touch(root, f'volume-{number}.nii', f'segmentation-{number}.nii')
    return root


@pytest.mark.parametrize(
    ('image', 'label'),
    [
        ('volume-{}.nii', 'segmentation-{}.nii'),
        ('volume-{}.nii.gz', 'segmentation-{}.nii'),
        ('volume_pt1/volume-{}.nii', 'segmentations/segmentation-{}.nii'),
        ('volume_pt1/volume_pt1/volume-{}.nii', 'segmentations/segmentations/segmentation-{}.nii'),
        ('volume_pt1/volume-{0}.nii/volume-{0}.nii', 'segmentations/segmentation-{0}.nii/segmentation-{0}.nii'),
        (CODALAB + '/volume-{}.nii', CODALAB + '/segmentation-{}.nii'),
    ],
    ids=['flat', 'image compressed', 'folders', 'folders twice', 'folder per file', 'CodaLab'],
)
def test_kaggle_and_codalab_at_any_depth(tmp_path, image, label):
    for number in (2, 10):
        touch(tmp_path, image.format(number), label.format(number))
    cases, _ = find_cases(tmp_path)
    assert [case.name for case in cases] == ['volume-2', 'volume-10']
    for number, case in zip((2, 10), cases, strict=True):
        assert case.images == (tmp_path / image.format(number),)
        assert case.labels == (tmp_path / label.format(number),)


def test_medical_decathlon_without_its_litter_and_its_unlabelled_test_images(tmp_path):
    touch(tmp_path, 'dataset.json', 'imagesTr/liver_0.nii.gz', 'labelsTr/liver_0.nii.gz')
    touch(tmp_path, 'imagesTr/._liver_0.nii.gz', 'labelsTr/._liver_0.nii.gz', 'imagesTs/liver_132.nii.gz')
    touch(tmp_path, '._imagesTr/liver_0.nii.gz', '__MACOSX/imagesTr/liver_0.nii.gz')
    (case,) = find_cases(tmp_path)[0]
    assert case.name == 'liver_0'
    assert (*case.images, *case.labels) == (tmp_path / 'imagesTr/liver_0.nii.gz', tmp_path / 'labelsTr/liver_0.nii.gz')


def test_unlabelled_test_volumes_are_no_cases(tmp_path):
    touch(kaggle(tmp_path, 0), 'test-volume-1.nii', 'testing/test-volume-2.nii', 'segmentation-7.nii')
    assert [case.name for case in find_cases(tmp_path)[0]] == ['volume-0']


def test_images_and_labels_are_joined_on_the_number_not_on_their_order(tmp_path):
    # As text, 10 comes before 2; by folder, the labels come the other way round than the images.
    touch(tmp_path, 'a/volume-2.nii', 'b/volume-10.nii', 'a/segmentation-10.nii', 'b/segmentation-02.nii')
    cases, _ = find_cases(tmp_path)
    names = [(case.images[0].name, case.labels[0].name) for case in cases]
    assert names == [('volume-2.nii', 'segmentation-02.nii'), ('volume-10.nii', 'segmentation-10.nii')]


def test_a_volume_without_segmentation_is_named(tmp_path):
    touch(kaggle(tmp_path, 0), 'volume-3.nii')
    good, bad = find_cases(tmp_path)[0]
    assert good.fault == ''
    assert 'volume-3.nii: no segmentation with the number 3' in bad.fault


@pytest.mark.parametrize(
    'second',
    ['volume-1.nii.gz', 'more/volume-1.nii', 'volume-01.nii', 'x/segmentation-1.nii', 'x/segmentation-01.nii.gz'],
)
def test_a_number_twice_is_refused_with_both_places(tmp_path, second):
    touch(kaggle(tmp_path, 1), second)
    if second.startswith('imagesTr'):
        with pytest.raises(UserError, match=r'layouts Kaggle .* and MSD .* at once'):
            find_cases(tmp_path)
        return
    (case,) = find_cases(tmp_path)[0]
    assert 'number 1 is also at' in case.fault
    assert second in case.fault


@pytest.mark.parametrize(
    ('files', 'count'), [([], 0), (['.DS_Store', 'a.txt', 'scans/volume.nii', 'test-volume-0.nii', 'DICOMDIR'], 4)]
)
def test_an_empty_or_wrong_folder_is_told_what_was_expected(tmp_path, files, count):
    touch(tmp_path, *files)
    with pytest.raises(UserError, match=rf'no CT volume found among {count} files; expected volume-N\.nii'):
        find_cases(tmp_path)


def test_no_folder_and_a_file_instead_of_one_name_the_config_field(tmp_path):
    for root, said in ((tmp_path / 'nowhere', 'no such'), (touch(tmp_path, 'file') / 'file', 'not a')):
        with pytest.raises(UserError, match=rf'{said} folder; .* data\.raw'):
            find_cases(root)


def test_upper_case_names_are_found(tmp_path):
    touch(tmp_path, 'Volume-0.NII', 'SEGMENTATION-0.nii.GZ')
    assert [case.name for case in find_cases(tmp_path)[0]] == ['Volume-0']


def test_two_cases_never_have_one_name(tmp_path):
    touch(tmp_path, 'a/b-c/ct.nii.gz', 'a/b-c/seg.nii.gz', 'a-b/c/ct.nii.gz', 'a-b/c/seg.nii.gz')
    touch(tmp_path, 'a-b-c-2/ct.nii.gz', 'a-b-c-2/seg.nii.gz')
    cases, _ = find_cases(tmp_path, '', '**/ct.nii.gz', '**/seg.nii.gz')
    assert len({case.name for case in cases}) == 3
    assert {case.images[0] for case in cases} == set(tmp_path.rglob('ct.nii.gz'))


def test_a_folder_named_like_a_volume_is_no_volume(tmp_path):
    (kaggle(tmp_path, 0) / 'volume-9.nii.gz').mkdir()
    assert [case.name for case in find_cases(tmp_path)[0]] == ['volume-0']


def test_links_inside_are_followed_and_one_that_leads_back_ends(tmp_path):
    touch(tmp_path, 'disk/a-0', 'disk/b-0')
    (tmp_path / 'raw').symlink_to(tmp_path)  # the folder itself may be a link, and leads back here
    (tmp_path / 'volume-0.nii').symlink_to(tmp_path / 'disk' / 'a-0')
    (tmp_path / 'segmentation-0.nii').symlink_to('disk/b-0')
    (tmp_path / 'also').mkdir()
    (tmp_path / 'also' / 'volume-0.nii').symlink_to('../volume-0.nii')  # the same file is no second volume
    (case,) = find_cases(tmp_path / 'raw')[0]
    assert case.labels[0] == tmp_path / 'raw' / 'segmentation-0.nii'


@pytest.mark.parametrize('link', ['volume-1.nii', 'more', 'more/volume-1.nii', 'README'])
@pytest.mark.parametrize('relative', [False, True])
def test_a_link_that_leads_out_is_refused_with_its_end(tmp_path, link, relative):
    raw = kaggle(tmp_path / 'raw', 0)
    kaggle(tmp_path / 'raw-2', 1)  # a name that begins alike
    end = tmp_path / 'raw-2' / ('volume-1.nii' if link.endswith('nii') else '')
    (raw / link).parent.mkdir(exist_ok=True)
    (raw / link).symlink_to(os.path.relpath(end, (raw / link).parent) if relative else end)
    with pytest.raises(UserError, match='leads out of the folder, to') as refusal:
        find_cases(raw)
    assert str(raw / link) in str(refusal.value)
    assert str(end) in str(refusal.value)


def test_a_link_that_leads_nowhere_is_named(tmp_path):
    touch(tmp_path, 'segmentation-0.nii')
    (tmp_path / 'volume-0.nii').symlink_to(tmp_path / 'gone')
    assert 'volume-0.nii: not a file' in find_cases(tmp_path)[0][0].fault


@pytest.mark.parametrize('asked', ['', 'signature'])
def test_without_patients_file_the_anatomy_is_to_tell_and_that_is_said(tmp_path, asked):
    cases, source = find_cases(kaggle(tmp_path, 0, 1), asked)
    assert [case.patient for case in cases] == ['', '']
    assert source == 'from the anatomy: cases that look alike count as one patient'


@pytest.mark.parametrize(('asked', 'patient'), [('', 'a'), ('volume', 'volume-0'), ('signature', '')])
def test_what_is_asked_for_goes_before_the_patients_file(tmp_path, asked, patient):
    (kaggle(tmp_path, 0) / 'patients.csv').write_text('case,patient\nvolume-0,a\n')
    (case,), source = find_cases(tmp_path, asked)
    assert case.patient == patient
    assert ('one per volume' in source) == (asked == 'volume')


def test_patients_from_the_file_in_the_folder(tmp_path):
    (kaggle(tmp_path, 0, 1, 2) / 'patients.csv').write_text('case,patient\nvolume-1,b\nvolume-0, a \nvolume-2,a\n')
    cases, source = find_cases(tmp_path)
    assert [case.patient for case in cases] == ['a', 'b', 'a']
    assert source == 'from patients.csv'


def test_a_patients_file_that_was_asked_for_goes_before_the_one_in_the_folder(tmp_path):
    raw = kaggle(tmp_path / 'raw', 0)
    (raw / 'patients.csv').write_text('case,patient\nvolume-0,inside\n')
    (tmp_path / 'other.csv').write_text('case,patient\nvolume-0,asked for\nvolume-99,somebody else\n')
    cases, source = find_cases(raw, str(tmp_path / 'other.csv'))
    assert [case.patient for case in cases] == ['asked for']
    assert 'other.csv' in source


def test_a_patients_file_as_excel_writes_it(tmp_path):
    (kaggle(tmp_path, 0) / 'patients.csv').write_bytes(b'\xef\xbb\xbfcase,age,patient\r\nvolume-0,50,Ann\r\n')
    assert find_cases(tmp_path)[0][0].patient == 'Ann'


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'expected a CSV with the columns case,patient'),
        (b'case,patient\n', 'expected a CSV with the columns case,patient'),
        (b'case;patient\nvolume-0;a\n', 'expected a CSV with the columns case,patient'),
        (b'scan,patient\nvolume-0,a\n', 'expected a CSV with the columns case,patient'),
        (b'case,patient\nvolume-0\n', 'a patient in every row'),
        (b'case,patient\nvolume-0, \n', 'a patient in every row'),
        (b'case,patient\nvolume-0,a\n', 'no row for volume-1; expected a row for each of the 2 cases'),
        (b'case,patient\nvolume-0,a\nvolume-1,b\nvolume-0,c\n', "volume-0 is of 'a' and of 'c'"),
        (b'case,patient\nvolume-0,\xff\n', 'cannot be read'),
    ],
)
def test_a_patients_file_that_does_not_do_is_named_with_the_reason(tmp_path, content, message):
    (kaggle(tmp_path, 0, 1) / 'patients.csv').write_bytes(content)
    with pytest.raises(UserError, match=message) as refusal:
        find_cases(tmp_path)
    assert str(refusal.value).startswith(str(tmp_path / 'patients.csv'))


def test_a_patients_file_that_was_asked_for_but_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r'none\.csv: cannot be read'):
        find_cases(kaggle(tmp_path, 0), str(tmp_path / 'none.csv'))


@pytest.mark.parametrize(
    ('images', 'labels', 'files', 'names'),
    [
        ('ct/*.nii.gz', 'seg/*.nii.gz', ['ct/b.nii.gz', 'seg/b.nii.gz', 'ct/a.nii.gz', 'seg/a.nii.gz'], ['a', 'b']),
        ('*.nii', '*-label.nii', ['2.nii', '2-label.nii', '10.nii', '10-label.nii'], ['2', '10']),
        ('*_ct.nii', '*.nii', ['x_ct.nii', 'x.nii'], ['x_ct']),
        ('**/ct.nii', '**/seg.nii', ['p1/ct.nii', 'p1/seg.nii', 'p/2/ct.nii', 'p/2/seg.nii', 'ct.nii', 'seg.nii'],
         ['ct', 'p1', 'p-2']),
        ('*/v?.nii', '*/m?.nii', ['a/v1.nii', 'a/m1.nii', 'b/v1.nii', 'b/m1.nii'], ['a-1', 'b-1']),
        ('Volume [1]/*.nii', 'Masks+/*.nii', ['Volume [1]/a.nii', 'Masks+/a.nii'], ['a']),
    ],
)  # fmt: skip
def test_pairs_by_patterns_are_joined_on_what_the_stars_stand_for(tmp_path, images, labels, files, names):
    touch(tmp_path, *files, 'notes.txt')
    cases, _ = find_cases(tmp_path, '', images, labels)
    assert [case.name for case in cases] == names
    pairs = set(zip(files[::2], files[1::2], strict=True))
    assert {tuple(str(p.relative_to(tmp_path)) for p in (*c.images, *c.labels)) for c in cases} == pairs


@pytest.mark.parametrize(
    ('images', 'labels', 'said'),
    [
        ('ct/*.nii', 'nowhere/*.nii', "data.labels is 'nowhere/.*, which matches none of 5 files"),
        ('ct/*.nii', 'seg/*', r'notes\.txt: taken by data\.labels'),
        ('ct/*.nii', 'seg/*.nii', r"ct/b\.nii: no label for 'b'"),
        ('ct/*.nii', 'seg/a.nii', '1 and 0 stars; expected the same number'),
        ('ct/a.nii', 'seg/a.nii', '0 and 0 stars; expected the same number'),
        ('**/*.nii', 'seg/*.nii', '2 and 1 stars; expected the same number'),
    ],
)
def test_patterns_that_give_no_pairs_are_refused_with_the_reason(tmp_path, images, labels, said):
    touch(tmp_path, 'ct/a.nii', 'ct/b.nii', 'seg/a.nii', 'seg/c.nii', 'seg/notes.txt')
    with pytest.raises(UserError, match=said):
        find_cases(tmp_path, '', images, labels)


def test_a_label_without_image_is_named(tmp_path):
    touch(tmp_path, 'ct/a.nii', 'seg/a.nii', 'seg/c.nii')
    with pytest.raises(UserError, match=r"seg/c\.nii: no image for 'c'"):
        find_cases(tmp_path, '', 'ct/*.nii', 'seg/*.nii')


def png(root: Path, volume: int, *slices_: int) -> Path:
    for k in slices_:
        masks = [f'segmentation-{volume}_{organ}mask_{k}.png' for organ in ('liver', 'lesion')]
        touch(root, f'volume-{volume}_{k}.png', *masks)
    return root


def test_pictures_are_joined_on_both_numbers_of_their_names(tmp_path):
    png(tmp_path / 'part 2', 10, 3, 4)
    touch(png(tmp_path, 2, *range(11)), 'lits_df.csv')
    cases, _ = find_cases(tmp_path)
    assert [(case.name, case.kind, len(case.images), len(case.labels)) for case in cases] == [
        ('volume-2', 'png', 11, 22),
        ('volume-10', 'png', 2, 4),
    ]
    assert [path.name for path in cases[0].images] == [f'volume-2_{k}.png' for k in range(11)]


@pytest.mark.parametrize(
    'name', ['volume-0_5.png', 'segmentation-0_livermask_5.png', 'segmentation-0_lesionmask_5.png']
)
@pytest.mark.parametrize('beside', [[4, 5, 6], [4, 5]])
def test_a_picture_that_is_not_there_is_named(tmp_path, name, beside):
    (png(tmp_path, 0, *beside) / name).unlink()
    with pytest.raises(UserError, match=f'{name}: not there'):
        find_cases(tmp_path)


def test_a_slice_without_any_picture_is_named(tmp_path):
    with pytest.raises(UserError, match=r'volume-0_2\.png: not there, though other pictures of volume 0 are'):
        find_cases(png(tmp_path, 0, 1, 3))


def test_a_picture_twice_is_refused(tmp_path):
    with pytest.raises(UserError, match='also at'):
        find_cases(touch(png(tmp_path, 0, 1), 'x/volume-0_01.png'))


def test_series_with_and_without_segmentation(tmp_path, caplog):
    caplog.set_level('INFO')
    first = slices(small_hu(), patient='P1')
    save_all(tmp_path / 'P1' / 'CT arterial', first)
    segmentation(first, {'Liver': small_hu() > 0}).save_as(tmp_path / 'P1' / 'liver.dcm')
    segmentation(first, {'Tumor': small_hu() > 900}).save_as(tmp_path / 'P1' / 'tumour.dcm')
    save_all(tmp_path / 'P2', [enhanced(small_hu())])
    save_all(tmp_path / 'P2 scout', slices(small_hu()[:4], ImageType=['ORIGINAL', 'PRIMARY', 'LOCALIZER']))
    save_all(tmp_path / 'P2 short', slices(small_hu()[:2]))
    save_all(tmp_path / 'P2 MR', slices(small_hu(), Modality='MR'))
    save_all(tmp_path / 'P2 contours', slices(small_hu()[:1], Modality='RTSTRUCT'))
    save_all(tmp_path / 'P2 dose', slices(small_hu()[:1], Modality='RTDOSE', NumberOfFrames=7))
    touch(tmp_path, 'P1/DICOMDIR', 'P1/notes', 'P1/report.pdf')
    cases, _ = find_cases(tmp_path)
    assert [(case.name, case.kind, len(case.images), len(case.labels)) for case in cases] == [
        ('CT_arterial', 'dicom', 12, 2),
        ('P2', 'dicom', 1, 0),
    ]
    for said in ('4 localizer images', 'a series of 2 slices', '12 files of modality MR', '1 RTSTRUCT files'):
        assert said in caplog.text


def test_series_are_named_by_folder_way_and_number(tmp_path):
    for folder in ('a/CT', 'b/CT', 'c'):
        save_all(tmp_path / folder, slices(small_hu()[:3]))
    one, other = slices(small_hu()[:3], SeriesNumber=7), slices(small_hu()[:3], SeriesNumber=8)
    save_all(tmp_path / 'both', [*one, *other])
    names = [case.name for case in find_cases(tmp_path)[0]]
    assert names == ['a-CT', 'b-CT', 'both-series-7', 'both-series-8', 'c']


@pytest.mark.parametrize(
    ('people', 'patients', 'said'),
    [
        (['A', 'B'], ['A', 'B'], 'from the DICOM header (PatientID)'),
        (['ANON', 'ANON'], ['', ''], "call all 2 studies 'ANON', as anonymising does"),
        (['A', ''], ['', ''], 'some DICOM headers have no PatientID'),
        (['', ''], ['', ''], 'from the anatomy: cases that look alike count as one patient'),
    ],
)
def test_patients_from_the_dicom_header_if_it_tells_them_apart(tmp_path, people, patients, said):
    for n, name in enumerate(people):
        save_all(tmp_path / str(n), slices(small_hu()[:3], patient=name))
    cases, source = find_cases(tmp_path)
    assert [case.patient for case in cases] == patients
    assert said in source


def test_one_study_with_several_patients_was_anonymised_by_series(tmp_path):
    for n in range(2):
        save_all(tmp_path / str(n), slices(small_hu()[:3], patient=f'anon{n}', StudyInstanceUID='1.2.3'))
    cases, source = find_cases(tmp_path)
    assert [case.patient for case in cases] == ['', '']
    assert 'one study several PatientIDs' in source


def test_a_segmentation_belongs_to_the_one_series_in_its_frame_if_it_names_none(tmp_path):
    made = slices(small_hu())
    save_all(tmp_path / 'ct', made)
    save_all(tmp_path / 'other', slices(small_hu()))
    one = segmentation(made, {'Liver': small_hu() > 0})
    del one.ReferencedSeriesSequence
    one.save_as(tmp_path / 'seg.dcm')
    assert [len(case.labels) for case in find_cases(tmp_path)[0]] == [1, 0]


def test_a_segmentation_whose_series_is_not_there_is_named(tmp_path):
    made = slices(small_hu())
    save_all(tmp_path / 'other', slices(small_hu()))
    segmentation(made, {'Liver': small_hu() > 0}).save_as(tmp_path / 'seg.dcm')
    with pytest.raises(
        UserError, match=rf'seg\.dcm: a segmentation of series {made[0].SeriesInstanceUID}, but no such'
    ):
        find_cases(tmp_path)


def test_other_modalities_alone_are_named(tmp_path):
    save_all(tmp_path, slices(small_hu(), Modality='MR'))
    with pytest.raises(UserError, match=r'DICOM files, but no CT series \(12 of MR\)'):
        find_cases(tmp_path)


def test_a_damaged_dicom_file_is_named(tmp_path):
    (tmp_path / 'IM1').write_bytes(bytes(128) + b'DICM' + b'\x08\0\x05\0XX' + b'\xff' * 40)
    with pytest.raises(UserError, match=r'IM1: |no CT series'):
        find_cases(tmp_path)


@pytest.mark.parametrize('second', ['png', 'dicom', 'msd'])
def test_two_layouts_at_once_are_both_named(tmp_path, second):
    kaggle(tmp_path, 0)
    if second == 'png':
        png(tmp_path, 0, 1)
    elif second == 'dicom':
        save_all(tmp_path / 'ct', slices(small_hu()))
    else:
        touch(tmp_path, 'imagesTr/liver_7.nii', 'labelsTr/liver_7.nii')
    name = {'png': r'lits-png \(volume-N_K.png\)', 'dicom': 'DICOM', 'msd': r'MSD \(imagesTr/liver_N.nii.gz\)'}[second]
    with pytest.raises(UserError, match=rf'layouts Kaggle \(volume-N.nii\) and {name} at once; expected one'):
        find_cases(tmp_path)


@pytest.mark.parametrize('name', ['Training_Batch1.zip', 'Task03_Liver.tar', 'lits.TAR.GZ', 'a.7z', 'a.rar', 'a.tgz'])
def test_archives_are_to_be_unpacked_first(tmp_path, name):
    touch(tmp_path, f'download/{name}')
    for root, said in (
        (tmp_path, 'no CT volume, but'),
        (tmp_path / 'download' / name, 'an archive; expected a folder'),
    ):
        with pytest.raises(UserError, match=f'{said}.*unpack it first'):
            find_cases(root)


AS_NOBODY = """
import encodings.utf_8_sig, os, sys
from pathlib import Path
from liver_jax.data.layouts import find_cases
from liver_jax.errors import UserError
import pydicom
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    for case in find_cases(Path(sys.argv[1]))[0]:
        print(case.fault, end='\\n' if case.fault else '')
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize('closed', ['', 'volume-0.nii', 'segmentation-0.nii', 'more', 'IM1', 'patients.csv'])
def test_what_may_not_be_read_is_named(closed):
    # In a folder of its own that everybody may enter; pytest's are the user's own.
    with tempfile.TemporaryDirectory() as name:
        raw = kaggle(Path(name) / 'raw', 0)
        Path(name).chmod(0o755)
        (raw / 'more').mkdir()
        (raw / 'patients.csv').write_text('case,patient\nvolume-0,a\n')
        (raw / 'IM1').write_bytes(bytes(128) + b'DICM')
        (raw / closed).chmod(0)
        run = subprocess.run([sys.executable, '-c', AS_NOBODY, raw], capture_output=True, text=True)
        (raw / closed).chmod(0o755)
    assert run.stderr == ''
    assert run.stdout.count('\n') == 1
    assert f'{raw / closed}: cannot be read (' in run.stdout
    assert 'ermission denied' in run.stdout


def test_131_volumes_are_found_at_once(tmp_path):
    kaggle(tmp_path, *range(131))
    start = time.perf_counter()
    assert len(find_cases(tmp_path)[0]) == 131
    assert time.perf_counter() - start < 1


def test_a_named_pipe_does_not_wait_for_a_writer(tmp_path):
    os.mkfifo(kaggle(tmp_path, 0) / 'IM1')
    assert len(find_cases(tmp_path)[0]) == 1
