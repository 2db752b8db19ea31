"""Which files on disk are a case, and whose."""

from pathlib import Path

import pytest

from liver_jax.data.layouts import find_cases
from liver_jax.errors import UserError

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
    with pytest.raises(UserError, match=r'volume-3\.nii: no segmentation with the number 3'):
        find_cases(tmp_path)


@pytest.mark.parametrize(
    'second', ['volume-1.nii.gz', 'more/volume-1.nii', 'volume-01.nii', 'imagesTr/liver_1.nii', 'x/segmentation-1.nii']
)
def test_a_number_twice_is_refused_with_both_places(tmp_path, second):
    touch(kaggle(tmp_path, 1), second)
    with pytest.raises(UserError, match='number 1 is also at') as refusal:
        find_cases(tmp_path)
    assert second in str(refusal.value)


@pytest.mark.parametrize(
    ('files', 'count'), [([], 0), (['.DS_Store', 'a.txt', 'scans/volume.nii', 'test-volume-0.nii'], 3)]
)
def test_an_empty_or_wrong_folder_is_told_what_was_expected(tmp_path, files, count):
    touch(tmp_path, *files)
    with pytest.raises(UserError, match=rf'no CT volume found among {count} files; expected volume-N\.nii'):
        find_cases(tmp_path)


def test_no_folder_and_a_file_instead_of_one_name_the_config_field(tmp_path):
    for root in (tmp_path / 'nowhere', touch(tmp_path, 'file') / 'file'):
        with pytest.raises(UserError, match=r'no such folder; .* data\.raw'):
            find_cases(root)


def test_a_folder_named_like_a_volume_is_no_volume(tmp_path):
    (kaggle(tmp_path, 0) / 'volume-9.nii.gz').mkdir()
    assert [case.name for case in find_cases(tmp_path)[0]] == ['volume-0']


def test_linked_folders_are_followed_and_a_link_that_leads_back_ends(tmp_path):
    kaggle(tmp_path / 'disk', 0)
    (tmp_path / 'raw').mkdir()
    (tmp_path / 'raw' / 'volumes').symlink_to(tmp_path / 'disk')
    (tmp_path / 'disk' / 'back').symlink_to(tmp_path / 'raw')
    (case,) = find_cases(tmp_path / 'raw')[0]
    assert case.images[0] == tmp_path / 'raw' / 'volumes' / 'volume-0.nii'


def test_a_link_that_leads_nowhere_is_named(tmp_path):
    touch(tmp_path, 'segmentation-0.nii')
    (tmp_path / 'volume-0.nii').symlink_to(tmp_path / 'gone')
    with pytest.raises(UserError, match=r'volume-0\.nii: not a file'):
        find_cases(tmp_path)


def test_without_patients_file_every_volume_is_a_patient_and_that_is_said(tmp_path):
    cases, source = find_cases(kaggle(tmp_path, 0, 1))
    assert [case.patient for case in cases] == ['volume-0', 'volume-1']
    assert 'one per volume' in source


def test_patients_from_the_file_in_the_folder(tmp_path):
    (kaggle(tmp_path, 0, 1, 2) / 'patients.csv').write_text('case,patient\nvolume-1,b\nvolume-0, a \nvolume-2,a\n')
    cases, source = find_cases(tmp_path)
    assert [case.patient for case in cases] == ['a', 'b', 'a']
    assert source == 'from patients.csv'


def test_a_patients_file_that_was_asked_for_goes_before_the_one_in_the_folder(tmp_path):
    raw = kaggle(tmp_path / 'raw', 0)
    (raw / 'patients.csv').write_text('case,patient\nvolume-0,inside\n')
    (tmp_path / 'other.csv').write_text('case,patient\nvolume-0,asked for\nvolume-99,somebody else\n')
    cases, source = find_cases(raw, tmp_path / 'other.csv')
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
        find_cases(kaggle(tmp_path, 0), tmp_path / 'none.csv')
